"""Logging in, and what that opens."""
