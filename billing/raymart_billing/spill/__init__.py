"""Spilled usage: kept in Redis and on disk while PostgreSQL is away, drained once when it is back."""

from raymart_billing.spill.drain import Drained, drain
from raymart_billing.spill.journal import Journal
from raymart_billing.spill.restore import Restored, restore
from raymart_billing.spill.spill import Spill, SpillFailed
from raymart_billing.spill.stream import SpillStream

__all__ = ["Drained", "Journal", "Restored", "Spill", "SpillFailed", "SpillStream", "drain", "restore"]
