"""Billing's tables on the shared metadata, for migrations and tests."""

from raymart_billing.ledger import models as ledger
from raymart_billing.posting import models as posting
from raymart_billing.work import models as work
from raymart_marketplace.db.metadata import metadata

__all__ = ["ledger", "metadata", "posting", "work"]
