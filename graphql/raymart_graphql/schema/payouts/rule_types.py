"""The rules of payouts and the kill switch as administrators see them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_billing.payouts.holdback import bands_of_json
from raymart_billing.payouts.policy_models import PayoutPolicy as PolicyRow
from raymart_billing.payouts.policy_models import PayoutSwitch
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.payouts.amounts import usdc
from raymart_graphql.schema.payouts.enums import SwitchSource

if TYPE_CHECKING:
    from raymart_graphql.schema.identity.types import User

LazyUser = Annotated["User", strawberry.lazy("raymart_graphql.schema.identity.types")]


@strawberry.type(description="What is kept back of who is trusted at least so far.")
class HoldbackBand:
    """Up to the next band."""

    trust_min: int = strawberry.field(description="From this trust on, 0 to 100.")
    basis_points: int = strawberry.field(description="Of an epoch's earnings; 1,000 is a tenth.")
    days: int = strawberry.field(description="For how long after the epoch's end.")


@strawberry.type(description="A version of the rules of payouts; the newest holds. For administrators.")
class PayoutPolicy:
    """Never changed, only followed by the next."""

    creator_uuid: strawberry.Private[UUID | None]
    version: BigInt = strawberry.field(description="From 1, without gaps.")
    minimum: Money = strawberry.field(description="The least that is paid; less is carried over.")
    batch_cap: Money = strawberry.field(description="The most that one batch may pay.")
    day_cap: Money = strawberry.field(description="The most that may be approved in 24 hours.")
    four_eyes_above: Money = strawberry.field(
        description="A larger batch needs two people who did not plan it."
    )
    epoch_hours: int = strawberry.field(description="How long an epoch lasts.")
    holdback_bands: list[HoldbackBand] = strawberry.field(description="By rising trust, from 0.")
    reason: str = strawberry.field(description="Why it was set.")
    created_at: datetime = strawberry.field(description="Since when it holds.")

    @classmethod
    def of(cls, row: PolicyRow) -> "PayoutPolicy":
        """`row` as the API shows it."""
        return cls(
            creator_uuid=row.created_by,
            version=BigInt(row.version),
            minimum=usdc(row.minimum_micro_usdc),
            batch_cap=usdc(row.batch_cap_micro_usdc),
            day_cap=usdc(row.day_cap_micro_usdc),
            four_eyes_above=usdc(row.four_eyes_above_micro_usdc),
            epoch_hours=row.epoch_hours,
            holdback_bands=[
                HoldbackBand(trust_min=band.trust_min, basis_points=band.basis_points, days=band.days)
                for band in bands_of_json(row.holdback_bands)
            ],
            reason=row.reason,
            created_at=row.created_at,
        )

    @resolved("Who set it; null for the first, and for an operator at the shell.")
    async def set_by(self, info: Info) -> LazyUser | None:
        """The person."""
        if self.creator_uuid is None:
            return None
        return await info.context.loaders.identity.user.load(self.creator_uuid)


@strawberry.type(description="That payouts were stopped. For administrators.")
class PayoutStop:
    """While one stands, nothing is approved and nothing is signed."""

    pauser_uuid: strawberry.Private[UUID | None]
    source: SwitchSource = strawberry.field(description="Who stopped them.")
    reason: str = strawberry.field(description="Why.")
    paused_at: datetime = strawberry.field(description="Since when.")
    resumed_at: datetime | None = strawberry.field(description="Until when; null while it stands.")
    resumed_reason: str | None = strawberry.field(description="Why they went on.")

    @classmethod
    def of(cls, row: PayoutSwitch) -> "PayoutStop":
        """`row` as the API shows it."""
        return cls(
            pauser_uuid=row.paused_by,
            source=row.source,
            reason=row.reason,
            paused_at=row.paused_at,
            resumed_at=row.resumed_at,
            resumed_reason=row.resumed_reason,
        )

    @resolved("Who; null for the marketplace itself.")
    async def paused_by(self, info: Info) -> LazyUser | None:
        """The person."""
        if self.pauser_uuid is None:
            return None
        return await info.context.loaders.identity.user.load(self.pauser_uuid)
