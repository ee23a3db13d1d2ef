"""What the holder of an API key may see, each part by its scope.

These types lead to nothing else of the organization: a key is in a program's hands, not a member's.
"""

from datetime import date, datetime
from uuid import UUID

import strawberry

from raymart_billing.budgets import BudgetScope
from raymart_billing.rollups import Scope
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page, global_id
from raymart_graphql.schema.budgets.types import Budget
from raymart_graphql.schema.usage.arguments import Since, Until
from raymart_graphql.schema.usage.rollups import UsageTotals, days_of
from raymart_marketplace.accounts.models import ApiKey as ApiKeyRow
from raymart_marketplace.accounts.scopes import KeyScope


@strawberry.type(description="What a key's holder sees of a key of its project.")
class KeySummary:
    """No link to the project or the organization."""

    id: strawberry.ID = strawberry.field(description="Global id of the key.")
    name: str = strawberry.field(description="Name for people.")
    prefix: str = strawberry.field(description="The first characters, to recognise a key by.")
    scopes: list[KeyScope] = strawberry.field(description="What it may be used for.")
    models: list[str] | None = strawberry.field(description="Slugs that it may use; null for all.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime | None = strawberry.field(description="When it ends by itself; null for never.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked; null while it works.")
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, to within two minutes."
    )

    @classmethod
    def of(cls, row: ApiKeyRow) -> "KeySummary":
        """`row` as a key's holder sees it."""
        return cls(
            id=global_id(Prefix.API_KEY, row.id),
            name=row.name,
            prefix=row.prefix,
            scopes=[KeyScope(scope) for scope in row.scopes],
            models=row.models,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
        )


@strawberry.type(description="Usage of one day.")
class DayOfUsage:
    """A day and its sums."""

    day: date = strawberry.field(description="The day, in UTC.")
    totals: UsageTotals = strawberry.field(description="What was used.")


@strawberry.type(description="The API key that asks.")
class CallingKey:
    """What its scopes let it see."""

    api_key_uuid: strawberry.Private[UUID]
    project_uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID]
    scopes: list[KeyScope] = strawberry.field(description="What it may be used for.")
    models: list[str] | None = strawberry.field(description="Slugs that it may use; null for all.")

    @resolved("What is known of it.")
    async def key(self, info: Info) -> KeySummary:
        """The key's own row."""
        return await info.context.loaders.keys.summary.load_known(self.api_key_uuid)

    @resolved("What it may spend, at most one limit per period.")
    async def budgets(self, info: Info) -> list[Budget]:
        """Budgets of the key."""
        return await info.context.loaders.budgets.budgets_of_scope.load(
            (BudgetScope.API_KEY, self.api_key_uuid)
        )

    @resolved("Usage of its project by day, oldest first; needs the scope USAGE_READ.")
    async def usage_by_day(self, info: Info, since: Since, until: Until) -> list[DayOfUsage]:
        """From the rollups."""
        scope = Scope(organization_id=self.organization_uuid, project_id=self.project_uuid)
        async with info.context.reading.session() as session:
            buckets = await days_of(session, (scope, since, until, None))
        return [DayOfUsage(day=bucket.starts_at.date(), totals=bucket.totals) for bucket in buckets]

    @listed("Keys of its project, revoked ones included, newest first; needs the scope KEYS_READ.")
    async def project_keys(self, info: Info, page: Page) -> Connection[KeySummary]:
        """Keys by id."""
        return await info.context.loaders.keys.summaries_of_project.load((self.project_uuid, page))


@strawberry.type
class KeyQuery:
    """Root fields of the domain."""

    @resolved("The API key that asks, whatever its scopes.")
    async def calling_key(self, info: Info) -> CallingKey:
        """For programs; people have `viewer`."""
        principal = await info.context.principal()
        caller = principal.caller
        assert caller is not None, "the rule lets only keys in"
        assert caller.api_key_id is not None, "a principal's caller is a key"
        return CallingKey(
            api_key_uuid=caller.api_key_id,
            project_uuid=caller.project_id,
            organization_uuid=caller.organization_id,
            scopes=sorted(caller.scopes),
            models=None if caller.models is None else sorted(caller.models),
        )
