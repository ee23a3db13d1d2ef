"""Every table of `marketplace` in one import, for migrations and tests. Billing adds its own in `raymart_billing.db`."""

from raymart_marketplace.accounts import invitation_models as invitations
from raymart_marketplace.accounts import mail_models as account_mail
from raymart_marketplace.accounts import models as accounts
from raymart_marketplace.accounts import oidc_models as oidc
from raymart_marketplace.accounts import second_factor_models as second_factors
from raymart_marketplace.accounts import session_models as sessions
from raymart_marketplace.accounts import wallet_proofs
from raymart_marketplace.audit import models as audit
from raymart_marketplace.catalog import models as catalog
from raymart_marketplace.catalog import registry_models as registry
from raymart_marketplace.db.base import Base
from raymart_marketplace.gateway.rate_limits import models as rate_limits
from raymart_marketplace.metering import models as metering
from raymart_marketplace.oversight import models as oversight
from raymart_marketplace.pricing import models as pricing
from raymart_marketplace.retention import models as retention
from raymart_marketplace.supply import life_models as supply_life
from raymart_marketplace.supply import models as supply
from raymart_marketplace.supply.benchmarks import models as benchmarks
from raymart_marketplace.supply.membership import models as membership
from raymart_marketplace.supply.planning import tables as planning

metadata = Base.metadata

__all__ = [
    "account_mail",
    "accounts",
    "audit",
    "benchmarks",
    "catalog",
    "invitations",
    "membership",
    "metadata",
    "metering",
    "oidc",
    "oversight",
    "planning",
    "pricing",
    "rate_limits",
    "registry",
    "retention",
    "second_factors",
    "sessions",
    "supply",
    "supply_life",
    "wallet_proofs",
]
