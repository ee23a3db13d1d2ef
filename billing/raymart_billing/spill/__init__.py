"""Spilled usage: kept in Redis and on disk while PostgreSQL is away, drained once when it is back."""

from raymart_billing.spill.draining import Drained, drain
from raymart_billing.spill.journal import Journal
from raymart_billing.spill.spill import Spill, SpillFailed, make_spill
from raymart_billing.spill.stream import SpillStream

__all__ = [
    "Drained",
    "Journal",
    "Spill",
    "SpillFailed",
    "SpillStream",
    "drain",
    "make_spill",
]
