"""All loaders of one operation, by domain. A domain's are made when the first of them is used."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any
from uuid import UUID

from strawberry.dataloader import DataLoader

from raymart_core.ids import Prefix
from raymart_graphql.reading import Reading
from raymart_graphql.schema.audit.loaders import AuditLoaders
from raymart_graphql.schema.billing.loaders import BillingLoaders
from raymart_graphql.schema.budgets.loaders import BudgetLoaders
from raymart_graphql.schema.catalog.loaders import CatalogLoaders
from raymart_graphql.schema.deposits.loaders import DepositLoaders
from raymart_graphql.schema.identity.loaders import IdentityLoaders
from raymart_graphql.schema.inference_limits.loaders import InferenceLimitLoaders
from raymart_graphql.schema.invoices.loaders import InvoiceLoaders
from raymart_graphql.schema.keys.loaders import KeyLoaders
from raymart_graphql.schema.ledger.loaders import LedgerLoaders
from raymart_graphql.schema.machines.loaders import MachineLoaders
from raymart_graphql.schema.members.loaders import MemberLoaders
from raymart_graphql.schema.oversight.loaders import OversightLoaders
from raymart_graphql.schema.payout_wallets.loaders import PayoutWalletLoaders
from raymart_graphql.schema.payouts.loaders import PayoutLoaders
from raymart_graphql.schema.pricing.loaders import PricingLoaders
from raymart_graphql.schema.privacy.loaders import PrivacyLoaders
from raymart_graphql.schema.provider_payouts.loaders import ProviderPayoutLoaders
from raymart_graphql.schema.retention.loaders import RetentionLoaders
from raymart_graphql.schema.service_accounts.loaders import ServiceAccountLoaders
from raymart_graphql.schema.sessions.loaders import SessionLoaders
from raymart_graphql.schema.statistics.loaders import StatisticsLoaders
from raymart_graphql.schema.supply.life_loaders import SupplyLifeLoaders
from raymart_graphql.schema.supply.loaders import SupplyLoaders
from raymart_graphql.schema.usage.loaders import UsageLoaders
from raymart_graphql.schema.usdc_deposits.loaders import UsdcDepositLoaders
from raymart_graphql.schema.wallets.loaders import WalletLoaders
from raymart_graphql.schema.work.loaders import WorkLoaders
from raymart_marketplace.shared_state import Redis


class Loaders:
    """Every loader of one operation."""

    def __init__(self, reading: Reading, *, redis: Redis | None = None) -> None:
        self._reading = reading
        self._redis = redis

    def by_prefix(self, prefix: Prefix) -> DataLoader[UUID, Any]:
        """The loader of the things whose ids begin with `prefix`. Raises: KeyError when no id outside names them."""
        return _BY_PREFIX[prefix](self)

    @cached_property
    def identity(self) -> IdentityLoaders:
        """People, organizations, projects and keys."""
        return IdentityLoaders(self._reading)

    @cached_property
    def sessions(self) -> SessionLoaders:
        """People's log-ins."""
        return SessionLoaders(self._reading)

    @cached_property
    def keys(self) -> KeyLoaders:
        """API keys, as members and as keys see them."""
        return KeyLoaders(self._reading)

    @cached_property
    def wallets(self) -> WalletLoaders:
        """Proven wallets."""
        return WalletLoaders(self._reading)

    @cached_property
    def payout_wallets(self) -> PayoutWalletLoaders:
        """The wallets that providers are paid to."""
        return PayoutWalletLoaders(self._reading)

    @cached_property
    def provider_payouts(self) -> ProviderPayoutLoaders:
        """What providers see of their payouts."""
        return ProviderPayoutLoaders(self._reading)

    @cached_property
    def payouts(self) -> PayoutLoaders:
        """Batches of payouts, as administrators see them."""
        return PayoutLoaders(self._reading)

    @cached_property
    def members(self) -> MemberLoaders:
        """Members, invitations and support's looks."""
        return MemberLoaders(self._reading)

    @cached_property
    def service_accounts(self) -> ServiceAccountLoaders:
        """Members that are no people."""
        return ServiceAccountLoaders(self._reading)

    @cached_property
    def catalog(self) -> CatalogLoaders:
        """Models and revisions."""
        return CatalogLoaders(self._reading, self.pricing)

    @cached_property
    def pricing(self) -> PricingLoaders:
        """What prices follow from."""
        return PricingLoaders(self._reading)

    @cached_property
    def supply(self) -> SupplyLoaders:
        """Providers, their machines and their offers."""
        return SupplyLoaders(self._reading)

    @cached_property
    def machines(self) -> MachineLoaders:
        """Benchmarks and telemetry."""
        return MachineLoaders(self._reading, self._redis)

    @cached_property
    def supply_life(self) -> SupplyLifeLoaders:
        """What became of providers and their machines."""
        return SupplyLifeLoaders(self._reading)

    @cached_property
    def usage(self) -> UsageLoaders:
        """Requests, usage records and their sums."""
        return UsageLoaders(self._reading)

    @cached_property
    def retention(self) -> RetentionLoaders:
        """What was kept of prompts."""
        return RetentionLoaders(self._reading)

    @cached_property
    def privacy(self) -> PrivacyLoaders:
        """Copies of what is an organization's own."""
        return PrivacyLoaders(self._reading)

    @cached_property
    def billing(self) -> BillingLoaders:
        """Balances, debts and earnings."""
        return BillingLoaders(self._reading)

    @cached_property
    def budgets(self) -> BudgetLoaders:
        """Budgets."""
        return BudgetLoaders(self._reading)

    @cached_property
    def inference_limits(self) -> InferenceLimitLoaders:
        """Limits of requests, tokens and concurrency."""
        return InferenceLimitLoaders(self._reading)

    @cached_property
    def deposits(self) -> DepositLoaders:
        """Deposits, disputes, grants and alerts."""
        return DepositLoaders(self._reading)

    @cached_property
    def usdc_deposits(self) -> UsdcDepositLoaders:
        """Top-ups in USDC."""
        return UsdcDepositLoaders(self._reading)

    @cached_property
    def invoices(self) -> InvoiceLoaders:
        """Invoices, credit notes and refunds."""
        return InvoiceLoaders(self._reading)

    @cached_property
    def ledger(self) -> LedgerLoaders:
        """The books."""
        return LedgerLoaders(self._reading)

    @cached_property
    def oversight(self) -> OversightLoaders:
        """Suspensions and flags."""
        return OversightLoaders(self._reading)

    @cached_property
    def audit(self) -> AuditLoaders:
        """The audit log."""
        return AuditLoaders(self._reading)

    @cached_property
    def statistics(self) -> StatisticsLoaders:
        """How well endpoints and models serve."""
        return StatisticsLoaders(self._reading)

    @cached_property
    def work(self) -> WorkLoaders:
        """Background work."""
        return WorkLoaders(self._reading)


_BY_PREFIX: Mapping[Prefix, Callable[[Loaders], DataLoader[UUID, Any]]] = {
    Prefix.USER: lambda loaders: loaders.identity.user,
    Prefix.SESSION: lambda loaders: loaders.sessions.session,
    Prefix.ORGANIZATION: lambda loaders: loaders.identity.organization,
    Prefix.PROJECT: lambda loaders: loaders.identity.project,
    Prefix.API_KEY: lambda loaders: loaders.identity.api_key,
    Prefix.SERVICE_ACCOUNT: lambda loaders: loaders.service_accounts.account,
    Prefix.MODEL: lambda loaders: loaders.catalog.model,
    Prefix.REVISION: lambda loaders: loaders.catalog.revision,
    Prefix.PROVIDER: lambda loaders: loaders.supply.provider,
    Prefix.POOL: lambda loaders: loaders.supply.pool,
    Prefix.NODE: lambda loaders: loaders.supply.node,
    Prefix.PLACEMENT: lambda loaders: loaders.supply.placement,
    Prefix.BENCHMARK: lambda loaders: loaders.machines.benchmark,
    Prefix.OFFER: lambda loaders: loaders.supply.offer,
    Prefix.REQUEST: lambda loaders: loaders.usage.request,
    Prefix.USAGE_RECORD: lambda loaders: loaders.usage.usage_record,
    Prefix.INVOICE: lambda loaders: loaders.invoices.invoice,
    Prefix.CREDIT_NOTE: lambda loaders: loaders.invoices.credit_note,
    Prefix.REFUND: lambda loaders: loaders.invoices.refund,
    Prefix.LEDGER_ACCOUNT: lambda loaders: loaders.ledger.account,
    Prefix.TRANSFER: lambda loaders: loaders.ledger.transfer,
    Prefix.DEPOSIT: lambda loaders: loaders.deposits.deposit,
    Prefix.DISPUTE: lambda loaders: loaders.deposits.dispute,
    Prefix.CREDIT_GRANT: lambda loaders: loaders.deposits.credit_grant,
    Prefix.ALERT: lambda loaders: loaders.deposits.alert,
    Prefix.WORK: lambda loaders: loaders.work.item,
    Prefix.TASK_RUN: lambda loaders: loaders.work.run,
}
