"""Billing's tables on the shared metadata, for migrations and tests."""

from raymart_billing.alerts import models as alerts
from raymart_billing.budgets import models as budgets
from raymart_billing.credits import models as credits_
from raymart_billing.deposits import models as deposits
from raymart_billing.holds import models as holds
from raymart_billing.invoices import models as invoices
from raymart_billing.ledger import models as ledger
from raymart_billing.ledger import proof_models as ledger_proofs
from raymart_billing.payout_wallets import models as payout_wallets
from raymart_billing.payouts import models as payouts
from raymart_billing.payouts import policy_models as payout_policies
from raymart_billing.payouts.reconciliation import models as reconciliation
from raymart_billing.privacy import models as privacy
from raymart_billing.records import models as records
from raymart_billing.refunds import models as refunds
from raymart_billing.rollups import models as rollups
from raymart_billing.self_billing import models as self_billing
from raymart_billing.statistics import models as statistics
from raymart_billing.usdc_deposits import models as usdc_deposits
from raymart_billing.work import models as work
from raymart_marketplace.db.metadata import metadata

__all__ = [
    "alerts",
    "budgets",
    "credits_",
    "deposits",
    "holds",
    "invoices",
    "ledger",
    "ledger_proofs",
    "metadata",
    "payout_policies",
    "payout_wallets",
    "payouts",
    "privacy",
    "reconciliation",
    "records",
    "refunds",
    "rollups",
    "self_billing",
    "statistics",
    "usdc_deposits",
    "work",
]
