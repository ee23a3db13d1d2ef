"""Balances and earnings."""
