"""Holds: money reserved before work is dispatched, and given back when its time is over."""

from raymart_billing.holds.blocks import block_of, block_organization, unblock_organization
from raymart_billing.holds.gate import LeaseHoldGate
from raymart_billing.holds.gateway_leases import GatewayLeases
from raymart_billing.holds.limits import LeaseLimits
from raymart_billing.holds.refusal import BudgetExceeded
from raymart_billing.holds.settlements import NoSettlements, Settlements
from raymart_billing.holds.sweep import sweep_holds, sweep_leases

__all__ = [
    "BudgetExceeded",
    "GatewayLeases",
    "LeaseHoldGate",
    "LeaseLimits",
    "NoSettlements",
    "Settlements",
    "block_of",
    "block_organization",
    "sweep_holds",
    "sweep_leases",
    "unblock_organization",
]
