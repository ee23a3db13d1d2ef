"""Alerts: low balances and used budgets, told once per crossing."""
