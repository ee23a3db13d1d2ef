"""Requests and what they were billed."""
