"""Sums of usage per hour and day, and what is read from them."""

from raymart_billing.rollups.models import UsageDay, UsageHour
from raymart_billing.rollups.service import (
    Dimension,
    Scope,
    Summary,
    Totals,
    UsageSum,
    usage_by_day,
    usage_by_hour,
    usage_summary,
)

__all__ = [
    "Dimension",
    "Scope",
    "Summary",
    "Totals",
    "UsageDay",
    "UsageHour",
    "UsageSum",
    "usage_by_day",
    "usage_by_hour",
    "usage_summary",
]
