"""The schema: one folder per domain, put together here."""

from functools import cache

import strawberry
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig

from raymart_graphql.documents import ParsedDocuments, WholeResults
from raymart_graphql.execution import PlainExecution
from raymart_graphql.limits import OperationLimits
from raymart_graphql.scalars import SCALARS
from raymart_graphql.schema.admin.mutations import AdminMutation
from raymart_graphql.schema.admin.queries import AdminQuery
from raymart_graphql.schema.admin.types import LedgerAccount, Transfer
from raymart_graphql.schema.audit.queries import AuditQuery
from raymart_graphql.schema.budgets.mutations import BudgetMutation
from raymart_graphql.schema.budgets.queries import BudgetQuery
from raymart_graphql.schema.catalog.mutations import CatalogMutation
from raymart_graphql.schema.catalog.queries import CatalogQuery
from raymart_graphql.schema.deposits.mutations import DepositMutation
from raymart_graphql.schema.deposits.queries import DepositQuery
from raymart_graphql.schema.feeds.subscriptions import FeedSubscription
from raymart_graphql.schema.guarded import GuardedSchema
from raymart_graphql.schema.identity.queries import IdentityQuery
from raymart_graphql.schema.images.mutations import ImageMutation
from raymart_graphql.schema.images.subscriptions import ImageSubscription
from raymart_graphql.schema.inference.embedding import EmbeddingMutation
from raymart_graphql.schema.inference.mutations import InferenceMutation
from raymart_graphql.schema.inference.subscriptions import InferenceSubscription
from raymart_graphql.schema.inference_limits.mutations import InferenceLimitMutation
from raymart_graphql.schema.invoices.mutations import InvoiceMutation
from raymart_graphql.schema.invoices.queries import InvoiceQuery
from raymart_graphql.schema.keys.mutations import KeyMutation
from raymart_graphql.schema.keys.queries import KeyQuery
from raymart_graphql.schema.ledger.mutations import LedgerMutation
from raymart_graphql.schema.ledger.queries import LedgerQuery
from raymart_graphql.schema.limits.queries import LimitsQuery
from raymart_graphql.schema.machines.mutations import MachineMutation
from raymart_graphql.schema.machines.queries import MachineQuery
from raymart_graphql.schema.members.mutations import MemberMutation
from raymart_graphql.schema.members.support import SupportMutation
from raymart_graphql.schema.nodes import NodeQuery
from raymart_graphql.schema.oidc.mutations import OidcMutation
from raymart_graphql.schema.oidc.types import OidcQuery
from raymart_graphql.schema.oversight.introspection import SwitchedIntrospection
from raymart_graphql.schema.oversight.mutations import OversightMutation
from raymart_graphql.schema.oversight.queries import OversightQuery
from raymart_graphql.schema.payout_wallets.mutations import PayoutWalletMutation
from raymart_graphql.schema.payouts.mutations import PayoutMutation
from raymart_graphql.schema.payouts.queries import PayoutQuery
from raymart_graphql.schema.pricing.mutations import PricingMutation
from raymart_graphql.schema.pricing.queries import PricingQuery
from raymart_graphql.schema.privacy.mutations import PrivacyMutation
from raymart_graphql.schema.reconciliation.mutations import ReconciliationMutation
from raymart_graphql.schema.reconciliation.queries import ReconciliationQuery
from raymart_graphql.schema.retention.mutations import RetentionMutation
from raymart_graphql.schema.routing.queries import RoutingQuery
from raymart_graphql.schema.service_accounts.mutations import ServiceAccountMutation
from raymart_graphql.schema.sessions.mutations import SessionMutation
from raymart_graphql.schema.sessions.registration import RegistrationMutation
from raymart_graphql.schema.sessions.second_factor import SecondFactorMutation
from raymart_graphql.schema.supply.applications import ApplicationMutation, ApplicationQuery
from raymart_graphql.schema.supply.data_policy import DataPolicyMutation
from raymart_graphql.schema.supply.lifecycle import SupplyLifecycleMutation
from raymart_graphql.schema.supply.maintenance import MaintenanceMutation
from raymart_graphql.schema.supply.mutations import SupplyMutation
from raymart_graphql.schema.supply.placing_mutations import PlacingMutation
from raymart_graphql.schema.supply.pools import PoolMutation
from raymart_graphql.schema.supply.queries import SupplyQuery
from raymart_graphql.schema.usage.mutations import UsageMutation
from raymart_graphql.schema.usage.queries import UsageQuery
from raymart_graphql.schema.usdc_deposits.mutations import UsdcDepositMutation
from raymart_graphql.schema.usdc_deposits.queries import UsdcDepositQuery
from raymart_graphql.schema.wallets.mutations import WalletMutation
from raymart_graphql.schema.work.mutations import WorkMutation
from raymart_graphql.schema.work.queries import WorkQuery
from raymart_graphql.scope import OperationScope


@strawberry.type(description="What can be read.")
class Query(
    IdentityQuery,
    KeyQuery,
    OidcQuery,
    CatalogQuery,
    SupplyQuery,
    MachineQuery,
    ApplicationQuery,
    AdminQuery,
    NodeQuery,
    PricingQuery,
    BudgetQuery,
    UsageQuery,
    WorkQuery,
    InvoiceQuery,
    DepositQuery,
    UsdcDepositQuery,
    LedgerQuery,
    AuditQuery,
    RoutingQuery,
    LimitsQuery,
    OversightQuery,
    ReconciliationQuery,
    PayoutQuery,
):
    """Every root field that reads."""


@strawberry.type(description="What can be changed. Each field is a transaction of its own.")
class Mutation(
    MemberMutation,
    SupportMutation,
    SessionMutation,
    RegistrationMutation,
    SecondFactorMutation,
    KeyMutation,
    RetentionMutation,
    PrivacyMutation,
    WalletMutation,
    PayoutWalletMutation,
    ServiceAccountMutation,
    OidcMutation,
    InferenceMutation,
    InferenceLimitMutation,
    ImageMutation,
    EmbeddingMutation,
    SupplyMutation,
    SupplyLifecycleMutation,
    MachineMutation,
    PlacingMutation,
    DataPolicyMutation,
    MaintenanceMutation,
    PoolMutation,
    ApplicationMutation,
    AdminMutation,
    CatalogMutation,
    PricingMutation,
    BudgetMutation,
    UsageMutation,
    WorkMutation,
    InvoiceMutation,
    DepositMutation,
    UsdcDepositMutation,
    LedgerMutation,
    OversightMutation,
    ReconciliationMutation,
    PayoutMutation,
):
    """Every root field that changes something."""


@strawberry.type(description="What can be followed, over graphql-transport-ws.")
class Subscription(InferenceSubscription, ImageSubscription, FeedSubscription):
    """Every root field that streams."""


def build_schema(*, development: bool = True) -> GuardedSchema:
    """The whole schema; outside development it describes itself only while a switch says so, and suggests no names."""
    extensions: list[type[SchemaExtension]] = [OperationScope, OperationLimits, ParsedDocuments, WholeResults]
    if not development:
        extensions.append(SwitchedIntrospection)
    return GuardedSchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[LedgerAccount, Transfer],
        extensions=extensions,
        execution_context_class=PlainExecution,
        config=StrawberryConfig(
            scalar_map=SCALARS,
            disable_field_suggestions=not development,
            enable_experimental_incremental_execution=True,
        ),
    )


@cache
def shared_schema(*, development: bool) -> GuardedSchema:
    """The process's one schema of its kind. It keeps nothing of who asks it, so that all apps, and all forks, may have it."""
    return build_schema(development=development)
