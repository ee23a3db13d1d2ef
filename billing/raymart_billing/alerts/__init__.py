"""Alerts: low balances and used budgets, told once per crossing."""

from raymart_billing.alerts.budgets import check_budgets
from raymart_billing.alerts.delivery import deliver
from raymart_billing.alerts.low_balance import (
    check_low_balances,
    raise_alert,
    set_threshold,
    threshold_of,
)
from raymart_billing.alerts.models import Alert, AlertKind, AlertThreshold

__all__ = [
    "Alert",
    "AlertKind",
    "AlertThreshold",
    "check_budgets",
    "check_low_balances",
    "deliver",
    "raise_alert",
    "set_threshold",
    "threshold_of",
]
