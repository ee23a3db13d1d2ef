"""Granted credit and its end, what a balance is made of, and corrections by hand."""

from raymart_billing.credits.adjustments import adjust_balance
from raymart_billing.credits.consumption import EMPTY, Entry, GrantPart, Parts, fold, step
from raymart_billing.credits.grants import expire_due, expire_grants, grant
from raymart_billing.credits.models import BalanceAdjustment, CreditGrant, GrantSource
from raymart_billing.credits.parts import paid_part, promotional_parts, read_parts, recompute_parts

__all__ = [
    "EMPTY",
    "BalanceAdjustment",
    "CreditGrant",
    "Entry",
    "GrantPart",
    "GrantSource",
    "Parts",
    "adjust_balance",
    "expire_due",
    "expire_grants",
    "fold",
    "grant",
    "paid_part",
    "promotional_parts",
    "read_parts",
    "recompute_parts",
    "step",
]
