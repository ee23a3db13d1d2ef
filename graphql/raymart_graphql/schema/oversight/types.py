"""Suspensions, flags on usage, and feature switches."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.relay import global_id
from raymart_graphql.schema.identity.types import Organization, User
from raymart_graphql.schema.oversight.enums import Feature, SubjectKind, SwitchState
from raymart_graphql.schema.supply.types import Provider
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.oversight import models
from raymart_marketplace.oversight.suspension import PREFIXES
from raymart_marketplace.oversight.switches import Switch

if TYPE_CHECKING:
    from raymart_graphql.schema.usage.types import UsageRecord

LazyUsageRecord = Annotated["UsageRecord", strawberry.lazy("raymart_graphql.schema.usage.types")]


@strawberry.type(description="Somebody or something is kept from the market, for a reason.")
class Suspension:
    """For the subject's own people and the marketplace's."""

    actor_uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID | None]
    kind: SubjectKind = strawberry.field(description="What is suspended.")
    subject_id: strawberry.ID = strawberry.field(
        description="Id of the organization, person, provider or key; `node` finds it."
    )
    reason: str = strawberry.field(description="Why.")
    created_at: datetime = strawberry.field(description="Since when.")
    lifted_at: datetime | None = strawberry.field(description="When it ended; null while it stands.")
    lifted_reason: str | None = strawberry.field(description="Why it ended; null while it stands.")

    @classmethod
    def of(cls, row: models.Suspension) -> "Suspension":
        """`row` as the API shows it."""
        return cls(
            actor_uuid=row.actor_id,
            organization_uuid=row.organization_id,
            kind=row.kind,
            subject_id=global_id(PREFIXES[row.kind], row.subject_id),
            reason=row.reason,
            created_at=row.created_at,
            lifted_at=row.lifted_at,
            lifted_reason=row.lifted_reason,
        )

    @resolved("Who suspended it; only the marketplace's people see that.")
    async def actor(self, info: Info) -> User | None:
        """An administrator."""
        principal = await info.context.principal()
        if not principal.may_in_market(Permission.PLATFORM_MARKET_READ):
            return None
        return await info.context.loaders.identity.user.load(self.actor_uuid)

    @resolved("Whose it is; null of a person, who may be in many, and for those who may not see it.")
    async def organization(self, info: Info) -> Organization | None:
        """The organization that is concerned."""
        found = self.organization_uuid
        return None if found is None else await info.context.loaders.identity.organization.load(found)


@strawberry.type(
    description="A mark on usage that somebody does not trust; what was earned by it is kept back."
)
class UsageFlag:
    """For the marketplace's people."""

    usage_uuid: strawberry.Private[UUID]
    actor_uuid: strawberry.Private[UUID]
    provider_uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID]
    reason: str = strawberry.field(description="Why.")
    created_at: datetime = strawberry.field(description="Since when.")
    cleared_at: datetime | None = strawberry.field(description="When it ended; null while it stands.")
    cleared_reason: str | None = strawberry.field(description="Why it ended; null while it stands.")

    @classmethod
    def of(cls, row: models.UsageFlag) -> "UsageFlag":
        """`row` as the API shows it."""
        return cls(
            usage_uuid=row.usage_id,
            actor_uuid=row.actor_id,
            provider_uuid=row.provider_id,
            organization_uuid=row.organization_id,
            reason=row.reason,
            created_at=row.created_at,
            cleared_at=row.cleared_at,
            cleared_reason=row.cleared_reason,
        )

    @resolved("Id of the request that was billed.")
    async def request_id(self, info: Info) -> strawberry.ID:
        """The request's own, also where a later part of it is flagged."""
        record = await info.context.loaders.usage.usage_record.load(self.usage_uuid)
        return global_id(Prefix.REQUEST, self.usage_uuid if record is None else record.request_uuid)

    @resolved("What was billed.")
    async def usage_record(self, info: Info) -> LazyUsageRecord | None:
        """The flagged record."""
        return await info.context.loaders.usage.usage_record.load(self.usage_uuid)

    @resolved("Who flagged it.")
    async def actor(self, info: Info) -> User:
        """An administrator."""
        return await info.context.loaders.identity.user.load_known(self.actor_uuid)

    @resolved("Who served it.")
    async def provider(self, info: Info) -> Provider:
        """Whose earnings are kept back."""
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)

    @resolved("Whose usage it is.")
    async def organization(self, info: Info) -> Organization:
        """The customer."""
        return await info.context.loaders.identity.organization.load_known(self.organization_uuid)


@strawberry.type(description="A feature that can be switched while the marketplace runs.")
class FeatureSwitch:
    """Other processes follow a change within seconds."""

    feature: Feature = strawberry.field(description="What it switches.")
    key: str = strawberry.field(description="Its name in logs.")
    state: SwitchState = strawberry.field(description="For whom it is on.")
    percentage: int = strawberry.field(description="The share of organizations, in the state PERCENTAGE.")
    organization_ids: list[strawberry.ID] = strawberry.field(
        description="The organizations, in the state ORGANIZATIONS."
    )

    @classmethod
    def of(cls, feature: Feature, switch: Switch) -> "FeatureSwitch":
        """`switch` as the API shows it."""
        return cls(
            feature=feature,
            key=feature.value,
            state=switch.state,
            percentage=switch.percentage,
            organization_ids=[
                global_id(Prefix.ORGANIZATION, found) for found in sorted(switch.organization_ids)
            ],
        )
