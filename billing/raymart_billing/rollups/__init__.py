"""Sums of usage per hour and day, and what is read from them."""

from raymart_billing.rollups.keys import KeySpending, spending_of_key
from raymart_billing.rollups.models import UsageDay, UsageHour
from raymart_billing.rollups.rebuilding import Drift, days_of, drift_of, drifting_days, rebuild
from raymart_billing.rollups.series import Line, Series, Step, usage_series
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
    "Drift",
    "KeySpending",
    "Line",
    "Scope",
    "Series",
    "Step",
    "Summary",
    "Totals",
    "UsageDay",
    "UsageHour",
    "UsageSum",
    "days_of",
    "drift_of",
    "drifting_days",
    "rebuild",
    "spending_of_key",
    "usage_by_day",
    "usage_by_hour",
    "usage_series",
    "usage_summary",
]
