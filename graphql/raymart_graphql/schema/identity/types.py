"""Users, organizations, projects and API keys."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_billing.budgets import BudgetScope
from raymart_billing.rollups import Scope
from raymart_core.ids import Prefix
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import OrganizationKind, Role, Step
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Node, Page, global_id, parse_global_id
from raymart_graphql.scalars import Money
from raymart_graphql.schema.audit.types import AuditEntry, Entries
from raymart_graphql.schema.billing.types import Balance
from raymart_graphql.schema.inference_limits.shown import allowance_of_organization, limits_set_by_customer
from raymart_graphql.schema.ledger.types import StatementLine, statement_of_organization
from raymart_graphql.schema.usage.arguments import (
    By,
    ByStep,
    Month,
    Since,
    SinceHour,
    SinceMoment,
    Until,
    UntilHour,
    UntilMoment,
)
from raymart_graphql.schema.usage.filters import RequestFilter, Requests
from raymart_marketplace.accounts import models
from raymart_marketplace.accounts.key_filters import KeyFilter, KeyState
from raymart_marketplace.accounts.models import ApiKey as ApiKeyRow
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.audit.search import AuditFilter as Wanted

if TYPE_CHECKING:
    from raymart_graphql.schema.budgets.types import Budget
    from raymart_graphql.schema.deposits.types import Alert, BillingBlock, CreditGrant, Deposit
    from raymart_graphql.schema.inference_limits.types import InferenceLimits
    from raymart_graphql.schema.invoices.types import BillingProfile, Invoice, Refund
    from raymart_graphql.schema.members.types import Invitation, Member, SupportAccess
    from raymart_graphql.schema.oversight.types import Suspension
    from raymart_graphql.schema.privacy.types import OrganizationErasure, PrivacyExport
    from raymart_graphql.schema.service_accounts.types import ServiceAccount
    from raymart_graphql.schema.supply.types import Provider
    from raymart_graphql.schema.usage.rollups import UsageBucket, UsageSummary
    from raymart_graphql.schema.usage.series import UsageSeries
    from raymart_graphql.schema.usage.types import Request, UsageRecord
    from raymart_graphql.schema.usdc_deposits.types import UsdcDeposit, UsdcTopUp
    from raymart_graphql.schema.wallets.types import WalletProof

LazySuspension = Annotated["Suspension", strawberry.lazy("raymart_graphql.schema.oversight.types")]
LazyBudget = Annotated["Budget", strawberry.lazy("raymart_graphql.schema.budgets.types")]
LazyInferenceLimits = Annotated[
    "InferenceLimits", strawberry.lazy("raymart_graphql.schema.inference_limits.types")
]
LazyProvider = Annotated["Provider", strawberry.lazy("raymart_graphql.schema.supply.types")]
LazyInvoice = Annotated["Invoice", strawberry.lazy("raymart_graphql.schema.invoices.types")]
LazyRefund = Annotated["Refund", strawberry.lazy("raymart_graphql.schema.invoices.types")]
LazyBillingProfile = Annotated["BillingProfile", strawberry.lazy("raymart_graphql.schema.invoices.types")]
LazyDeposit = Annotated["Deposit", strawberry.lazy("raymart_graphql.schema.deposits.types")]
LazyGrant = Annotated["CreditGrant", strawberry.lazy("raymart_graphql.schema.deposits.types")]
LazyAlert = Annotated["Alert", strawberry.lazy("raymart_graphql.schema.deposits.types")]
LazyBlock = Annotated["BillingBlock", strawberry.lazy("raymart_graphql.schema.deposits.types")]
LazyUsageBucket = Annotated["UsageBucket", strawberry.lazy("raymart_graphql.schema.usage.rollups")]
LazyUsageSummary = Annotated["UsageSummary", strawberry.lazy("raymart_graphql.schema.usage.rollups")]
LazyUsageSeries = Annotated["UsageSeries", strawberry.lazy("raymart_graphql.schema.usage.series")]
LazyRequest = Annotated["Request", strawberry.lazy("raymart_graphql.schema.usage.types")]
LazyServiceAccount = Annotated[
    "ServiceAccount", strawberry.lazy("raymart_graphql.schema.service_accounts.types")
]
LazyErasure = Annotated["OrganizationErasure", strawberry.lazy("raymart_graphql.schema.privacy.types")]
LazyPrivacyExport = Annotated["PrivacyExport", strawberry.lazy("raymart_graphql.schema.privacy.types")]
LazyUsdcTopUp = Annotated["UsdcTopUp", strawberry.lazy("raymart_graphql.schema.usdc_deposits.types")]
LazyUsdcDeposit = Annotated["UsdcDeposit", strawberry.lazy("raymart_graphql.schema.usdc_deposits.types")]
LazyWalletProof = Annotated["WalletProof", strawberry.lazy("raymart_graphql.schema.wallets.types")]
LazyMember = Annotated["Member", strawberry.lazy("raymart_graphql.schema.members.types")]
LazyInvitation = Annotated["Invitation", strawberry.lazy("raymart_graphql.schema.members.types")]
LazySupportAccess = Annotated["SupportAccess", strawberry.lazy("raymart_graphql.schema.members.types")]
LazyUsageRecord = Annotated["UsageRecord", strawberry.lazy("raymart_graphql.schema.usage.types")]

InState = Annotated[KeyState | None, strawberry.argument(description="Only keys in this state.")]
WithScope = Annotated[KeyScope | None, strawberry.argument(description="Only keys with this scope.")]
OfProject = Annotated[strawberry.ID | None, strawberry.argument(description="Only keys of this project.")]


@strawberry.type(description="A person.")
class User(Node):
    """A person; visible to themselves and to administrators."""

    uuid: strawberry.Private[UUID]
    email: str = strawberry.field(description="E-mail address, in lower case.")
    name: str = strawberry.field(description="How the person is called.")
    created_at: datetime = strawberry.field(description="When the account was made.")

    @classmethod
    def of(cls, row: models.User) -> "User":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.USER, row.id),
            uuid=row.id,
            email=row.email,
            name=row.name,
            created_at=row.created_at,
        )

    @resolved("Why they cannot sign in; null while they are not suspended.")
    async def suspension(self, info: Info) -> LazySuspension | None:
        """The one that stands."""
        return await info.context.loaders.oversight.suspension_of.load(self.uuid)


@strawberry.type(description="A tenant: the owner of projects, keys, money or machines.")
class Organization(Node):
    """Visible to its members and to administrators."""

    uuid: strawberry.Private[UUID]
    slug: str = strawberry.field(description="Unique name for links.")
    name: str = strawberry.field(description="Name for people.")
    kind: OrganizationKind = strawberry.field(description="What it does in the market.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def of(cls, row: models.Organization) -> "Organization":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.ORGANIZATION, row.id),
            uuid=row.id,
            slug=row.slug,
            name=row.name,
            kind=row.kind,
            created_at=row.created_at,
        )

    async def owner(self, _operation: Operation) -> UUID:
        """The organization itself."""
        return self.uuid

    @resolved("The viewer's role here; null for an administrator who is no member.")
    async def viewer_role(self, info: Info) -> Role | None:
        """Role by the viewer's memberships."""
        principal = await info.context.principal()
        return principal.role_in(self.uuid)

    @resolved("What it has to spend; null while the ledger is away.")
    async def balance(self, info: Info) -> Balance | None:
        """Balance of the organization's account in the ledger."""
        return await info.context.loaders.billing.balance_of_organization.load(self.uuid)

    @resolved("What all of it may spend, at most one limit per period.")
    async def budgets(self, info: Info) -> list[LazyBudget]:
        """Budgets of the organization as a whole."""
        return await info.context.loaders.budgets.budgets_of_scope.load((BudgetScope.ORGANIZATION, self.uuid))

    @resolved("What it may ask of models by its members' own will; null when they have set nothing.")
    async def inference_limits(self, info: Info) -> LazyInferenceLimits | None:
        """Limits of the organization as a whole."""
        return await limits_set_by_customer(info, self.uuid)

    @resolved("What the marketplace allows all of it; the lower of this and its own limits binds.")
    async def inference_allowance(self, info: Info) -> LazyInferenceLimits:
        """Its own allowance, or the default."""
        return await allowance_of_organization(info, self.uuid)

    @listed("What was posted on its balance, newest first, with the balance after each line.")
    async def statement(self, info: Info, page: Page) -> Connection[StatementLine]:
        """The ledger's statement of the customer's account."""
        return await statement_of_organization(info, self.uuid, page)

    @listed("Its members, oldest membership first.")
    async def members(self, info: Info, page: Page) -> Connection[LazyMember]:
        """Memberships by id."""
        return await info.context.loaders.members.of_organization.load((self.uuid, page))

    @listed("Invitations to it, accepted and revoked ones included, newest first.")
    async def invitations(self, info: Info, page: Page) -> Connection[LazyInvitation]:
        """Invitations by id."""
        return await info.context.loaders.members.invitations_of_organization.load((self.uuid, page))

    @listed("Looks of the platform's support into it, newest first.")
    async def support_accesses(self, info: Info, page: Page) -> Connection[LazySupportAccess]:
        """Accesses by id."""
        return await info.context.loaders.members.support_of_organization.load((self.uuid, page))

    @listed("Its projects, oldest first.")
    async def projects(self, info: Info, page: Page) -> "Connection[Project]":
        """Projects by id."""
        return await info.context.loaders.identity.projects_of_organization.load((self.uuid, page))

    @listed("Its API keys, revoked ones included unless a state is asked for, newest first.")
    async def api_keys(
        self,
        info: Info,
        page: Page,
        state: InState = None,
        scope: WithScope = None,
        project_id: OfProject = None,
    ) -> "Connection[ApiKey]":
        """Keys of all projects by id."""
        project = (
            None if project_id is None else parse_global_id(Prefix.PROJECT, project_id, field="projectId")
        )
        wanted = KeyFilter(state=state, scope=scope, project_id=project)
        return await info.context.loaders.keys.of_organization.load((self.uuid, wanted, page))

    @listed("Its members that are no people, disabled ones included, oldest first.")
    async def service_accounts(self, info: Info, page: Page) -> Connection[LazyServiceAccount]:
        """Service accounts by id."""
        return await info.context.loaders.service_accounts.of_organization.load((self.uuid, page))

    @listed("Wallets that it has proven to own, oldest proof first; empty unless it is a provider.")
    async def wallets(self, info: Info, page: Page) -> Connection[LazyWalletProof]:
        """Live proofs."""
        return await info.context.loaders.wallets.of_organization.load((self.uuid, page))

    @listed("What it was billed, newest first.")
    async def usage_records(self, info: Info, page: Page) -> Connection[LazyUsageRecord]:
        """Usage records by id."""
        return await info.context.loaders.usage.usage_of_organization.load((self.uuid, page))

    @listed("Its invoices, newest first.")
    async def invoices(self, info: Info, page: Page) -> Connection[LazyInvoice]:
        """Invoices by id."""
        return await info.context.loaders.invoices.invoices_of_organization.load((self.uuid, page))

    @listed("What it was given back, newest first.")
    async def refunds(self, info: Info, page: Page) -> Connection[LazyRefund]:
        """Refunds by id."""
        return await info.context.loaders.invoices.refunds_of_organization.load((self.uuid, page))

    @resolved("To whom its invoices are made out; null until somebody has said so.")
    async def billing_profile(self, info: Info) -> LazyBillingProfile | None:
        """The organization's billing profile."""
        return await info.context.loaders.invoices.billing_profile_of_organization.load(self.uuid)

    @listed("Its top-ups by card, newest first. `usdcDeposits` are those in USDC.")
    async def deposits(self, info: Info, page: Page) -> Connection[LazyDeposit]:
        """Deposits by id."""
        return await info.context.loaders.deposits.deposits_of_organization.load((self.uuid, page))

    @listed("Its requests to pay in USDC, newest first.")
    async def usdc_top_ups(self, info: Info, page: Page) -> Connection[LazyUsdcTopUp]:
        """Requests by id."""
        return await info.context.loaders.usdc_deposits.top_ups_of_organization.load((self.uuid, page))

    @listed("What it paid in USDC, newest first; also what is not credited yet.")
    async def usdc_deposits(self, info: Info, page: Page) -> Connection[LazyUsdcDeposit]:
        """Payments by id."""
        return await info.context.loaders.usdc_deposits.deposits_of_organization.load((self.uuid, page))

    @listed("Credit it was granted, newest first.")
    async def credit_grants(self, info: Info, page: Page) -> Connection[LazyGrant]:
        """Grants by id."""
        return await info.context.loaders.deposits.grants_of_organization.load((self.uuid, page))

    @listed("Thresholds that it crossed, newest first.")
    async def alerts(self, info: Info, page: Page) -> Connection[LazyAlert]:
        """Alerts by id."""
        return await info.context.loaders.deposits.alerts_of_organization.load((self.uuid, page))

    @listed("Who changed what in it, newest first. `GET /audit/{id}.csv` and `.jsonl` give it as a file.")
    async def audit_log(self, info: Info, page: Page, filter: Entries = None) -> Connection[AuditEntry]:  # noqa: A002 - the argument's name in the schema
        """Entries by number."""
        wanted = Wanted() if filter is None else filter.wanted()
        return await info.context.loaders.audit.of_organization.load((self.uuid, wanted, page))

    @listed("Copies of all that is its own, newest first; `exportOrganization` has one made.")
    async def exports(self, info: Info, page: Page) -> Connection[LazyPrivacyExport]:
        """Exports by id."""
        return await info.context.loaders.privacy.exports_of_organization.load((self.uuid, page))

    @resolved("Its end, waiting or done; null unless an owner asked for it.")
    async def erasure(self, info: Info) -> LazyErasure | None:
        """The one that is not cancelled."""
        return await info.context.loaders.privacy.erasure_of_organization.load(self.uuid)

    @resolved("Why it may not spend; null while it may.")
    async def billing_block(self, info: Info) -> LazyBlock | None:
        """The lease gate's block."""
        return await info.context.loaders.deposits.block_of_organization.load(self.uuid)

    @resolved("Below which balance it is told; its own choice, else the marketplace's.")
    async def low_balance_threshold(self, info: Info) -> Money:
        """Threshold of its alerts."""
        own = await info.context.loaders.deposits.threshold_of_organization.load(self.uuid)
        return own or Money.of(Amount.parse(str(info.context.services.settings.low_balance_usd)))

    @resolved("Its usage by day, oldest first; days without any are left out. At most 400 sums.")
    async def usage_by_day(
        self, info: Info, since: Since, until: Until, by: By = None
    ) -> list[LazyUsageBucket]:
        """From the rollups."""
        asked = (Scope(organization_id=self.uuid), since, until, by)
        return await info.context.loaders.usage.usage_by_day.load(asked)

    @resolved("Its usage by hour, oldest first; hours without any are left out. At most 400 sums.")
    async def usage_by_hour(
        self, info: Info, since: SinceHour, until: UntilHour, by: By = None
    ) -> list[LazyUsageBucket]:
        """From the rollups."""
        asked = (Scope(organization_id=self.uuid), since, until, by)
        return await info.context.loaders.usage.usage_by_hour.load(asked)

    @resolved("A month of its usage at a glance.")
    async def usage_summary(self, info: Info, month: Month) -> LazyUsageSummary:
        """From the rollups."""
        return await info.context.loaders.usage.usage_summary.load((Scope(organization_id=self.uuid), month))

    @resolved("Its usage over a range with nothing left out, for charts. At most 744 points.")
    async def usage_series(
        self, info: Info, since: SinceMoment, until: UntilMoment, step: ByStep = Step.DAY, by: By = None
    ) -> LazyUsageSeries:
        """From the rollups."""
        asked = (Scope(organization_id=self.uuid), since, until, step, by)
        return await info.context.loaders.usage.usage_series.load(asked)

    @listed("Its requests, newest first; failed ones and those that cost nothing too.")
    async def requests(self, info: Info, page: Page, filter_: Requests = None) -> Connection[LazyRequest]:
        """Requests by id."""
        wish = (filter_ or RequestFilter()).wish()
        return await info.context.loaders.usage.requests_of_organization.load((self.uuid, page, wish))

    @resolved("Why nothing is served to it; null while it is not suspended.")
    async def suspension(self, info: Info) -> LazySuspension | None:
        """The one that stands."""
        return await info.context.loaders.oversight.suspension_of.load(self.uuid)

    @resolved("What it sells as; null unless it is a provider.")
    async def provider(self, info: Info) -> LazyProvider | None:
        """The provider that belongs to this organization."""
        return await info.context.loaders.supply.provider_of_organization.load(self.uuid)


@strawberry.type(description="A part of an organization that keys and usage belong to.")
class Project(Node):
    """Visible to the organization's members."""

    uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID]
    slug: str = strawberry.field(description="Unique name in the organization.")
    name: str = strawberry.field(description="Name for people.")
    created_at: datetime = strawberry.field(description="When it was made.")
    archived_at: datetime | None = strawberry.field(description="When it was ended; null while it is used.")
    answer_cache_seconds: int = strawberry.field(
        description="How long answers are given again where neither a request nor its key says; 0 for not at all."
    )

    @classmethod
    def of(cls, row: models.Project) -> "Project":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.PROJECT, row.id),
            uuid=row.id,
            organization_uuid=row.organization_id,
            slug=row.slug,
            name=row.name,
            created_at=row.created_at,
            archived_at=row.archived_at,
            answer_cache_seconds=row.answer_cache_s,
        )

    async def owner(self, _operation: Operation) -> UUID:
        """Its organization."""
        return self.organization_uuid

    @resolved("What it may spend, at most one limit per period.")
    async def budgets(self, info: Info) -> list[LazyBudget]:
        """Budgets of the project."""
        return await info.context.loaders.budgets.budgets_of_scope.load((BudgetScope.PROJECT, self.uuid))

    @resolved("What it may ask of models by its members' own will; null when they have set nothing.")
    async def inference_limits(self, info: Info) -> LazyInferenceLimits | None:
        """Limits of the project."""
        return await limits_set_by_customer(info, self.uuid)

    @resolved("Its usage over a range with nothing left out, for charts. At most 744 points.")
    async def usage_series(
        self, info: Info, since: SinceMoment, until: UntilMoment, step: ByStep = Step.DAY, by: By = None
    ) -> LazyUsageSeries:
        """From the rollups."""
        scope = Scope(organization_id=self.organization_uuid, project_id=self.uuid)
        return await info.context.loaders.usage.usage_series.load((scope, since, until, step, by))

    @resolved("Whose project it is.")
    async def organization(self, info: Info) -> Organization:
        """The owning organization."""
        return await info.context.loaders.identity.organization.load_known(self.organization_uuid)


@strawberry.type(description="A key for programs. The key itself is shown once, when it is made or rotated.")
class ApiKey(Node):
    """Visible to the organization's members."""

    uuid: strawberry.Private[UUID]
    project_uuid: strawberry.Private[UUID]
    created_by_uuid: strawberry.Private[UUID]
    name: str = strawberry.field(description="Name for people.")
    prefix: str = strawberry.field(description="The first characters, to recognise a key by.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime | None = strawberry.field(description="When it ends by itself; null for never.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked; null while it works.")
    scopes: list[KeyScope] = strawberry.field(description="What it may be used for.")
    models: list[str] | None = strawberry.field(
        description="Slugs of the models that it may use; null for all."
    )
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, to within two minutes; null for never."
    )
    rotated_at: datetime | None = strawberry.field(
        description="When its present secret replaced another; null while it has its first."
    )
    former_secret_ends_at: datetime | None = strawberry.field(
        description="Until when the secret before it works as well; null without one."
    )
    prompt_retention_days: int = strawberry.field(
        description="How many days prompts and completions of its requests are kept; 0 for not at all."
    )
    answer_cache_seconds: int | None = strawberry.field(
        description="How long its answers are given again where a request does not say; 0 for not at all, null for "
        "what its project says."
    )

    @classmethod
    def of(cls, row: ApiKeyRow) -> "ApiKey":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.API_KEY, row.id),
            uuid=row.id,
            project_uuid=row.project_id,
            created_by_uuid=row.created_by,
            name=row.name,
            prefix=row.prefix,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            scopes=[KeyScope(scope) for scope in row.scopes],
            models=row.models,
            last_used_at=row.last_used_at,
            rotated_at=row.rotated_at,
            former_secret_ends_at=row.former_ends_at,
            prompt_retention_days=row.prompt_retention_days,
            answer_cache_seconds=row.answer_cache_s,
        )

    async def owner(self, operation: Operation) -> UUID:
        """The organization of its project."""
        project = await operation.loaders.identity.project.load_known(self.project_uuid)
        return project.organization_uuid

    @resolved("What it may spend, at most one limit per period.")
    async def budgets(self, info: Info) -> list[LazyBudget]:
        """Budgets of the key."""
        return await info.context.loaders.budgets.budgets_of_scope.load((BudgetScope.API_KEY, self.uuid))

    @resolved("What it may ask of models by its members' own will; null when they have set nothing.")
    async def inference_limits(self, info: Info) -> LazyInferenceLimits | None:
        """Limits of the key."""
        return await limits_set_by_customer(info, self.uuid)

    @resolved("Why it is refused; null while it is not suspended.")
    async def suspension(self, info: Info) -> LazySuspension | None:
        """The one that stands."""
        return await info.context.loaders.oversight.suspension_of.load(self.uuid)

    @resolved("The project that its usage belongs to.")
    async def project(self, info: Info) -> Project:
        """Its project."""
        return await info.context.loaders.identity.project.load_known(self.project_uuid)
