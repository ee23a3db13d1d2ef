"""Refunds: by rule on the fault of a request, by an administrator, by credit note."""

from raymart_billing.refunds.models import Bearer, Refund, RefundKind
from raymart_billing.refunds.rules import RULES, RULES_VERSION, RefundRule
from raymart_billing.refunds.service import (
    Broken,
    broken_requests,
    refund_by_rule,
    refund_credit_note,
    refund_request,
)

__all__ = [
    "RULES",
    "RULES_VERSION",
    "Bearer",
    "Broken",
    "Refund",
    "RefundKind",
    "RefundRule",
    "broken_requests",
    "refund_by_rule",
    "refund_credit_note",
    "refund_request",
]
