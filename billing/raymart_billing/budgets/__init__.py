"""Budgets: limits on what an organization, a project or a key may spend in a day, a month or ever."""
