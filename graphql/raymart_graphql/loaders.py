"""Request-scoped loaders: whatever a page of rows refers to is fetched in one statement per kind.

A loader lives for one operation, so nothing of one caller can reach another, and nothing goes stale for long.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from strawberry.dataloader import DataLoader

from raymart_billing.alerts import models as alerts
from raymart_billing.budgets import BudgetScope, budgets_of_scopes
from raymart_billing.credits import Parts, promotional_parts
from raymart_billing.credits import models as credits_
from raymart_billing.deposits import models as deposits
from raymart_billing.holds.models import BillingBlock as BlockRow
from raymart_billing.invoices import models as invoices
from raymart_billing.ledger import balance_of
from raymart_billing.ledger import models as ledger
from raymart_billing.ledger.models import AccountKind
from raymart_billing.refunds import models as refunds
from raymart_billing.work import models as work
from raymart_core.errors import DomainError
from raymart_core.ids import Prefix
from raymart_core.money import ZERO, Asset
from raymart_core.units import Unit
from raymart_graphql.keyset import Listing, page_of, pages_by_parent
from raymart_graphql.reading import Reading
from raymart_graphql.relay import Connection, Page
from raymart_graphql.scalars import Money
from raymart_graphql.schema.admin.types import LedgerAccount, Transfer
from raymart_graphql.schema.billing.types import Balance, Earnings
from raymart_graphql.schema.budgets.types import Budget
from raymart_graphql.schema.catalog.types import Model, ModelRevision
from raymart_graphql.schema.deposits.types import (
    Alert,
    BillingBlock,
    CreditGrant,
    Deposit,
    DepositRefund,
    Dispute,
)
from raymart_graphql.schema.identity.types import ApiKey, Organization, Project, User
from raymart_graphql.schema.invoices.listings import CREDIT_NOTES, INVOICE_LINES, INVOICES, REFUNDS
from raymart_graphql.schema.invoices.types import BillingProfile, CreditNote, Invoice, Refund
from raymart_graphql.schema.prices import TokenPrices
from raymart_graphql.schema.pricing.loaders import PricingLoaders
from raymart_graphql.schema.pricing.types import RateCard
from raymart_graphql.schema.supply.types import Offer, Placement, Pool, Provider, ProviderNode
from raymart_graphql.schema.usage.rollups import (
    Days,
    EarningsBucket,
    Hours,
    Months,
    UsageBucket,
    UsageSummary,
    days_of,
    earnings_of,
    hours_of,
    month_of,
)
from raymart_graphql.schema.usage.types import Attempt, Request, UsageRecord
from raymart_graphql.schema.work.types import OutboxItem, TaskRun
from raymart_marketplace.accounts import models as accounts
from raymart_marketplace.catalog import models as catalog
from raymart_marketplace.catalog.models import RevisionState
from raymart_marketplace.db.base import Base, Row
from raymart_marketplace.metering import models as metering
from raymart_marketplace.pricing import models as pricing
from raymart_marketplace.pricing.effective import card_prices
from raymart_marketplace.pricing.models import RateCardState
from raymart_marketplace.supply import models as supply
from raymart_marketplace.supply.models import OfferState, PoolKind, ProviderState

RowType = TypeVar("RowType", bound=Row)
Table = TypeVar("Table", bound=Base)
Shown = TypeVar("Shown")
Numbered = TypeVar("Numbered", ledger.LedgerAccount, ledger.Transfer)
Key = TypeVar("Key", bound=Hashable)
Asked = TypeVar("Asked", bound=Hashable)
Found = TypeVar("Found")

SERVED = (RevisionState.PUBLISHED, RevisionState.DEPRECATED)
SELLS = (
    supply.Offer.state == OfferState.OPEN,
    supply.Provider.state == ProviderState.ACTIVE,
    catalog.ModelRevision.state.in_(SERVED),
)
"""What makes an offer one that requests can use, as the gateway sees it (`supply.endpoints`)."""
FEW_MAX = 100
"""Rows of a list that is no connection."""
Pages = DataLoader[tuple[UUID, Page], Connection[Shown]]


class Known(DataLoader[UUID, Shown | None], Generic[Shown]):
    """A loader by id."""

    async def load_known(self, key: UUID) -> Shown:
        """What a foreign key refers to; its absence is a bug of ours."""
        found = await self.load(key)
        assert found is not None, f"no row for the reference {key}"
        return found


class Loaders:
    """Every loader of one operation."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._load_deposits()
        self.user = self._known(accounts.User, User.of)
        self.organization = self._known(accounts.Organization, Organization.of)
        self.project = self._known(accounts.Project, Project.of)
        self.api_key = self._known(accounts.ApiKey, ApiKey.of)
        self.model = self._known(catalog.Model, Model.of)
        self.revision = self._known(catalog.ModelRevision, ModelRevision.of)
        self.provider = self._known(supply.Provider, Provider.of)
        self.pool = self._known(supply.Pool, Pool.of)
        self.node = self._known(supply.Node, ProviderNode.of)
        self.placement = self._known(supply.Placement, Placement.of)
        self.offer = self._known(supply.Offer, Offer.of)
        self.request = self._known(metering.Request, Request.of)
        self.usage_record = self._known(metering.UsageRecord, UsageRecord.of)
        self.work = self._known(work.OutboxItem, OutboxItem.of)
        self.task_run = self._known(work.TaskRun, TaskRun.of)
        self.invoice = self._known(invoices.Invoice, Invoice.of)
        self.credit_note = self._known(invoices.CreditNote, CreditNote.of)
        self.refund = self._known(refunds.Refund, Refund.of)

        self.ledger_account = self._numbered(ledger.LedgerAccount, LedgerAccount.of)
        self.transfer = self._numbered(ledger.Transfer, Transfer.of)
        self.by_prefix: Mapping[Prefix, DataLoader[UUID, Any]] = {
            Prefix.USER: self.user,
            Prefix.ORGANIZATION: self.organization,
            Prefix.PROJECT: self.project,
            Prefix.API_KEY: self.api_key,
            Prefix.MODEL: self.model,
            Prefix.REVISION: self.revision,
            Prefix.PROVIDER: self.provider,
            Prefix.POOL: self.pool,
            Prefix.NODE: self.node,
            Prefix.PLACEMENT: self.placement,
            Prefix.OFFER: self.offer,
            Prefix.REQUEST: self.request,
            Prefix.USAGE_RECORD: self.usage_record,
            Prefix.INVOICE: self.invoice,
            Prefix.CREDIT_NOTE: self.credit_note,
            Prefix.REFUND: self.refund,
            Prefix.LEDGER_ACCOUNT: self.ledger_account,
            Prefix.TRANSFER: self.transfer,
            Prefix.DEPOSIT: self.deposit,
            Prefix.DISPUTE: self.dispute,
            Prefix.CREDIT_GRANT: self.credit_grant,
            Prefix.ALERT: self.alert,
            Prefix.WORK: self.work,
            Prefix.TASK_RUN: self.task_run,
        }

        self.provider_of_organization = self._by(
            supply.Provider, supply.Provider.organization_id, Provider.of
        )
        self.provider_by_slug = self._by(supply.Provider, supply.Provider.slug, Provider.of)
        self.balance_of_organization = self._accounts(AccountKind.CUSTOMER_BALANCE, Balance.of)
        self.earnings_of_provider = self._accounts(AccountKind.PROVIDER_PAYABLE, Earnings.of)
        self.budgets_of_scope: DataLoader[tuple[BudgetScope, UUID], list[Budget]] = DataLoader(
            load_fn=self._budgets
        )
        self.attempts_of_request: DataLoader[UUID, list[Attempt]] = DataLoader(load_fn=self._attempts)
        self.lowest_prices_of_model: DataLoader[UUID, TokenPrices | None] = DataLoader(
            load_fn=self._lowest_prices
        )

        self.projects_of_organization = self._pages(PROJECTS, accounts.Project.organization_id)
        self.api_keys_of_organization = self._pages(
            API_KEYS, accounts.Project.organization_id, joined=_join_project
        )
        self.usage_of_organization = self._pages(USAGE, metering.UsageRecord.organization_id)
        self.invoices_of_organization = self._pages(INVOICES, invoices.Invoice.organization_id)
        self.lines_of_invoice = self._pages(INVOICE_LINES, invoices.InvoiceLine.invoice_id)
        self.credit_notes_of_invoice = self._pages(CREDIT_NOTES, invoices.CreditNote.invoice_id)
        self.refunds_of_organization = self._pages(REFUNDS, refunds.Refund.organization_id)
        self.billing_profile_of_organization: DataLoader[UUID, BillingProfile | None] = DataLoader(
            load_fn=self._billing_profiles
        )
        self.usage_by_day: DataLoader[Days, list[UsageBucket]] = self._each(days_of)
        self.usage_by_hour: DataLoader[Hours, list[UsageBucket]] = self._each(hours_of)
        self.usage_summary: DataLoader[Months, UsageSummary] = self._each(month_of)
        self.earnings_by_day: DataLoader[Days, list[EarningsBucket]] = self._each(earnings_of)
        self.revisions_of_model = self._pages(REVISIONS, catalog.ModelRevision.model_id)
        self.open_offers_of_model = self._pages(
            OPEN_OFFERS, catalog.ModelRevision.model_id, joined=_join_revision
        )
        self.rate_cards_of_model = self._pages(RATE_CARDS, pricing.RateCard.model_id)
        self.pricing = PricingLoaders(reading)
        self.offers_of_provider = self._pages(OFFERS, supply.Offer.provider_id)
        self.nodes_of_provider = self._pages(NODES, supply.Node.provider_id)
        self.placements_of_node = self._pages(PLACEMENTS, supply.Placement.node_id)
        self.pools_of_provider: Pages[Pool] = DataLoader(load_fn=self._pools)

    def _load_deposits(self) -> None:
        """Loaders of deposits, grants and alerts."""
        self.deposit = self._known(deposits.Deposit, Deposit.of)
        self.dispute = self._known(deposits.Dispute, Dispute.of)
        self.credit_grant = self._known(credits_.CreditGrant, CreditGrant.of)
        self.alert = self._known(alerts.Alert, Alert.of)
        self.owed_by_organization = self._accounts(AccountKind.CUSTOMER_RECEIVABLE, _owed)
        self.parts_of_balance: DataLoader[UUID, Parts] = DataLoader(load_fn=self._parts)
        self.block_of_organization = self._by(BlockRow, BlockRow.organization_id, _block)
        self.threshold_of_organization = self._by(
            alerts.AlertThreshold, alerts.AlertThreshold.organization_id, _threshold
        )
        self.refunds_of_deposit = self._few(
            deposits.DepositRefund, deposits.DepositRefund.deposit_id, DepositRefund.of
        )
        self.disputes_of_payment = self._few(deposits.Dispute, deposits.Dispute.payment_id, Dispute.of)
        self.deposits_of_organization = self._pages(DEPOSITS, deposits.Deposit.organization_id)
        self.grants_of_organization = self._pages(CREDIT_GRANTS, credits_.CreditGrant.organization_id)
        self.alerts_of_organization = self._pages(ALERTS, alerts.Alert.organization_id)

    def _known(self, entity: type[RowType], show: Callable[[RowType], Shown]) -> Known[Shown]:
        return Known(load_fn=self._fetch_by(entity, entity.id, show))

    def _numbered(
        self, entity: type[Numbered], show: Callable[[Numbered], Shown]
    ) -> DataLoader[UUID, Shown | None]:
        """Rows with a number as their key; their global ids carry it as a UUID's integer."""

        async def fetch(keys: list[UUID]) -> list[Shown | None]:
            numbers = [key.int for key in keys if key.int < 1 << 63]
            async with self._reading.session() as session:
                rows = (await session.scalars(select(entity).where(entity.id.in_(numbers)))).all()
            by_number = {row.id: show(row) for row in rows}
            return [by_number.get(key.int) for key in keys]

        return DataLoader(load_fn=fetch)

    def _by(
        self, entity: type[Table], column: InstrumentedAttribute[Key], show: Callable[[Table], Shown]
    ) -> DataLoader[Key, Shown | None]:
        return DataLoader(load_fn=self._fetch_by(entity, column, show))

    def _fetch_by(
        self, entity: type[Table], column: InstrumentedAttribute[Key], show: Callable[[Table], Shown]
    ) -> Callable[[list[Key]], Awaitable[list[Shown | None]]]:
        """Rows by a unique column, in one statement."""

        async def fetch(keys: list[Key]) -> list[Shown | None]:
            async with self._reading.session() as session:
                rows = (await session.scalars(select(entity).where(column.in_(keys)))).all()
            by_key = {getattr(row, column.key): show(row) for row in rows}
            return [by_key.get(key) for key in keys]

        return fetch

    def _accounts(
        self, kind: AccountKind, show: Callable[[ledger.LedgerAccount | None], Shown]
    ) -> DataLoader[UUID, Shown]:
        """Each owner's dollar account of `kind`; None for an owner to whom no money has moved yet."""

        async def fetch(owner_ids: list[UUID]) -> list[Shown]:
            statement = select(ledger.LedgerAccount).where(
                ledger.LedgerAccount.kind == kind,
                ledger.LedgerAccount.owner_id.in_(owner_ids),
                ledger.LedgerAccount.asset == Asset.USD,
            )
            async with self._reading.session() as session:
                by_owner = {row.owner_id: row for row in await session.scalars(statement)}
            return [show(by_owner.get(owner_id)) for owner_id in owner_ids]

        return DataLoader(load_fn=fetch)

    def _each(self, read: Callable[[AsyncSession, Asked], Awaitable[Found]]) -> DataLoader[Asked, Found]:
        """One statement for each thing that is asked; the same thing is asked once."""

        async def fetch(keys: list[Asked]) -> list[Found | Exception]:
            found: list[Found | Exception] = []
            for key in keys:
                try:
                    async with self._reading.session() as session:
                        found.append(await read(session, key))
                except DomainError as error:  # Of this key alone.
                    found.append(error)
            return found

        return DataLoader(load_fn=fetch)

    def _pages(
        self,
        listing: Listing[RowType, Shown],
        parent: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None],
        *,
        joined: Callable[[Select[RowType]], Select[RowType]] = lambda statement: statement,
    ) -> Pages[Shown]:
        """The list's pages of many parents: one statement for each page that differs in its arguments."""

        async def fetch(keys: list[tuple[UUID, Page]]) -> list[Connection[Shown]]:
            parents_by_page: dict[Page, list[UUID]] = defaultdict(list)
            for parent_id, page in keys:
                parents_by_page[page].append(parent_id)
            found: dict[tuple[UUID, Page], Connection[Shown]] = {}
            for page, parents in parents_by_page.items():
                async with self._reading.session() as session:
                    pages = await pages_by_parent(
                        session, listing, parent, parents=parents, page=page, joined=joined
                    )
                found |= {(parent_id, page): connection for parent_id, connection in pages.items()}
            return [found[key] for key in keys]

        return DataLoader(load_fn=fetch)

    async def _billing_profiles(self, organization_ids: list[UUID]) -> list[BillingProfile | None]:
        statement = select(invoices.BillingProfile).where(
            invoices.BillingProfile.organization_id.in_(organization_ids)
        )
        async with self._reading.session() as session:
            by_owner = {
                row.organization_id: BillingProfile.of(row) for row in await session.scalars(statement)
            }
        return [by_owner.get(organization_id) for organization_id in organization_ids]

    def _few(
        self, entity: type[RowType], column: InstrumentedAttribute[Key], show: Callable[[RowType], Shown]
    ) -> DataLoader[Key, list[Shown]]:
        """The first rows of each parent, for lists that do not grow; in one statement."""

        async def fetch(keys: list[Key]) -> list[list[Shown]]:
            place = func.row_number().over(partition_by=column, order_by=entity.id)
            first = select(entity.id, place.label("place")).where(column.in_(keys)).subquery()
            statement = (
                select(entity)
                .join(first, first.c.id == entity.id)
                .where(first.c.place <= FEW_MAX)
                .order_by(entity.id)
            )
            found: dict[Key, list[Shown]] = {key: [] for key in keys}
            async with self._reading.session() as session:
                for row in await session.scalars(statement):
                    found[getattr(row, column.key)].append(show(row))
            return [found[key] for key in keys]

        return DataLoader(load_fn=fetch)

    async def _parts(self, organization_ids: list[UUID]) -> list[Parts]:
        async with self._reading.session() as session:
            found = await promotional_parts(session, organization_ids)
        return [found[organization_id] for organization_id in organization_ids]

    async def _budgets(self, keys: list[tuple[BudgetScope, UUID]]) -> list[list[Budget]]:
        """One statement per kind of scope."""
        found: dict[tuple[BudgetScope, UUID], list[Budget]] = {key: [] for key in keys}
        async with self._reading.session() as session:
            for scope in {scope for scope, _ in keys}:
                scope_ids = [scope_id for each, scope_id in keys if each is scope]
                for standing in await budgets_of_scopes(session, scope, scope_ids):
                    found[scope, standing.scope_id].append(Budget.of(standing))
        return [found[key] for key in keys]

    async def _attempts(self, request_ids: list[UUID]) -> list[list[Attempt]]:
        statement = (
            select(metering.Attempt)
            .where(metering.Attempt.request_id.in_(request_ids))
            .order_by(metering.Attempt.request_id, metering.Attempt.position)
        )
        found: dict[UUID, list[Attempt]] = {request_id: [] for request_id in request_ids}
        async with self._reading.session() as session:
            for row in await session.scalars(statement):
                found[row.request_id].append(Attempt.of(row))
        return [found[request_id] for request_id in request_ids]

    async def _lowest_prices(self, model_ids: list[UUID]) -> list[TokenPrices | None]:
        statement = (
            select(
                catalog.ModelRevision.model_id,
                func.min(supply.Offer.ask_prompt_nano_usd).label("prompt"),
                func.min(supply.Offer.ask_completion_nano_usd).label("completion"),
                func.bool_or(supply.Offer.ask_prompt_nano_usd.is_(None)).label("prompt_by_card"),
                func.bool_or(supply.Offer.ask_completion_nano_usd.is_(None)).label("completion_by_card"),
            )
            .join(supply.Offer, supply.Offer.revision_id == catalog.ModelRevision.id)
            .join(supply.Provider, supply.Provider.id == supply.Offer.provider_id)
            .where(catalog.ModelRevision.model_id.in_(model_ids), *SELLS)
            .group_by(catalog.ModelRevision.model_id)
        )
        async with self._reading.session() as session:
            rows = (await session.execute(statement)).all()
        found = {}
        for row in rows:
            lowest = {Unit.TOKEN_PROMPT: row.prompt, Unit.TOKEN_COMPLETION: row.completion}
            if row.prompt_by_card or row.completion_by_card:
                book, now = await self.pricing.book()
                cards = card_prices(book, model_id=row.model_id, revision_id=None, at=now)
                by_card = {
                    Unit.TOKEN_PROMPT: row.prompt_by_card,
                    Unit.TOKEN_COMPLETION: row.completion_by_card,
                }
                lowest = {
                    unit: _lower(ask, cards.get(unit) if by_card[unit] else None)
                    for unit, ask in lowest.items()
                }
            prompt, completion = lowest.values()
            if prompt is not None and completion is not None:
                found[row.model_id] = TokenPrices.of_nano_usd(prompt=prompt, completion=completion)
        return [found.get(model_id) for model_id in model_ids]

    async def _pools(self, keys: list[tuple[UUID, Page]]) -> list[Connection[Pool]]:
        """A provider sees the house pools and its own; an operation asks this of one provider or two."""
        async with self._reading.session() as session:
            return [await page_of(session, _pools_for(provider_id), page) for provider_id, page in keys]


def _lower(ask: int | None, card: int | None) -> int | None:
    """The lower price, of those there are."""
    return min((price for price in (ask, card) if price is not None), default=None)


RATE_CARDS = Listing(
    name="rate_cards",
    entity=pricing.RateCard,
    key=pricing.RateCard.id,
    show=RateCard.of,
    newest_first=True,
    where=(pricing.RateCard.state != RateCardState.DRAFT,),
)
PROJECTS = Listing(name="projects", entity=accounts.Project, key=accounts.Project.id, show=Project.of)
API_KEYS = Listing(
    name="api_keys", entity=accounts.ApiKey, key=accounts.ApiKey.id, show=ApiKey.of, newest_first=True
)
USAGE = Listing(
    name="usage",
    entity=metering.UsageRecord,
    key=metering.UsageRecord.id,
    show=UsageRecord.of,
    newest_first=True,
)
DEPOSITS = Listing(
    name="deposits",
    entity=deposits.Deposit,
    key=deposits.Deposit.id,
    show=Deposit.of,
    newest_first=True,
)
CREDIT_GRANTS = Listing(
    name="credit_grants",
    entity=credits_.CreditGrant,
    key=credits_.CreditGrant.id,
    show=CreditGrant.of,
    newest_first=True,
)
ALERTS = Listing(name="alerts", entity=alerts.Alert, key=alerts.Alert.id, show=Alert.of, newest_first=True)
MODELS = Listing(name="models", entity=catalog.Model, key=catalog.Model.slug, show=Model.of)
REVISIONS = Listing(
    name="revisions",
    entity=catalog.ModelRevision,
    key=catalog.ModelRevision.id,
    show=ModelRevision.of,
    newest_first=True,
    where=(catalog.ModelRevision.state.in_(SERVED),),
)
OPEN_OFFERS = Listing(
    name="open_offers",
    entity=supply.Offer,
    key=supply.Offer.id,
    show=Offer.of,
    where=SELLS,
)
OFFERS = Listing(
    name="offers",
    entity=supply.Offer,
    key=supply.Offer.id,
    show=Offer.of,
    where=(supply.Offer.state != OfferState.CLOSED,),
)
NODES = Listing(name="nodes", entity=supply.Node, key=supply.Node.id, show=ProviderNode.of)
PLACEMENTS = Listing(name="placements", entity=supply.Placement, key=supply.Placement.id, show=Placement.of)


def _join_project(statement: Select[accounts.ApiKey]) -> Select[accounts.ApiKey]:
    return statement.join(accounts.Project, accounts.Project.id == accounts.ApiKey.project_id)


def _join_revision(statement: Select[supply.Offer]) -> Select[supply.Offer]:
    return statement.join(catalog.ModelRevision, catalog.ModelRevision.id == supply.Offer.revision_id).join(
        supply.Provider, supply.Provider.id == supply.Offer.provider_id
    )


def _owed(account: ledger.LedgerAccount | None) -> Money:
    """A receivable's balance is negative by what is owed."""
    return Money.of(ZERO - balance_of(account) if account else ZERO)


def _block(row: BlockRow) -> BillingBlock:
    return BillingBlock(reason=row.reason, by_rule=row.actor_id is None, created_at=row.created_at)


def _threshold(row: alerts.AlertThreshold) -> Money:
    return Money.of_nano_usd(row.low_balance_nano_usd)


def _pools_for(provider_id: UUID) -> Listing[supply.Pool, Pool]:
    joinable = (supply.Pool.kind == PoolKind.HOUSE) | (supply.Pool.provider_id == provider_id)
    return Listing(name="pools", entity=supply.Pool, key=supply.Pool.id, show=Pool.of, where=(joinable,))
