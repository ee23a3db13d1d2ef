"""Holds: money reserved before work is dispatched, and given back when its time is over."""

from raymart_billing.holds.gate import LedgerHoldGate
from raymart_billing.holds.release import hold_key, release_holds
from raymart_billing.holds.settlements import NoSettlements, Settlements
from raymart_billing.holds.sweep import sweep_holds

__all__ = [
    "LedgerHoldGate",
    "NoSettlements",
    "Settlements",
    "hold_key",
    "release_holds",
    "sweep_holds",
]
