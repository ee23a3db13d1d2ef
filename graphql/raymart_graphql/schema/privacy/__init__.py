"""Copies of what is an organization's own."""
