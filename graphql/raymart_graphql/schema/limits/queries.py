"""The caller's points."""

from datetime import datetime

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.points import Allowance


@strawberry.type(
    description="What the viewer may ask of this API in an hour, counted in points. Answers over HTTP carry the same "
    "as `x-ratelimit-*` headers."
)
class RateLimit:
    """An allowance, after this operation was taken from it."""

    limit: int = strawberry.field(description="Points in an hour.")
    cost: int = strawberry.field(
        description="Points of this operation: one for each hundred objects that it may touch, and at least one."
    )
    remaining: int = strawberry.field(description="Points left until `resetAt`.")
    used: int = strawberry.field(description="Points used since the hour began, this operation's included.")
    reset_at: datetime = strawberry.field(description="When the hour ends and all points are there again.")
    node_count: int = strawberry.field(description="Objects that this operation may touch at most.")

    @classmethod
    def of(cls, allowance: Allowance) -> "RateLimit":
        """The allowance as the API shows it."""
        return cls(
            limit=allowance.limit,
            cost=allowance.cost,
            remaining=allowance.remaining,
            used=allowance.used,
            reset_at=allowance.reset_at,
            node_count=allowance.nodes,
        )


@strawberry.type
class LimitsQuery:
    """Root fields of the domain."""

    @resolved(
        "What the viewer may still ask of this API. Without credentials it is counted by network address."
    )
    async def rate_limit(self, info: Info) -> RateLimit:
        """The allowance that this operation was charged to."""
        assert info.context.allowance is not None, "an operation is charged before it runs"
        return RateLimit.of(info.context.allowance)
