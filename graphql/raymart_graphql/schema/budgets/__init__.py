"""Budgets and leases."""
