"""Posting: usage made durable before the final byte, then turned into money, once."""

from raymart_billing.holds import sweep_holds
from raymart_billing.posting.post import post_requests, post_usage, sweep_usage
from raymart_billing.posting.recover import recover_checkpoints
from raymart_billing.posting.sink import LedgerUsageSink

__all__ = [
    "LedgerUsageSink",
    "post_requests",
    "post_usage",
    "recover_checkpoints",
    "sweep_holds",
    "sweep_usage",
]
