"""Deposits, disputes, grants and alerts."""
