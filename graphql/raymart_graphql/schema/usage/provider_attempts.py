"""What happened on a provider's machines, without who the customers were."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import AttemptOutcome, Fault
from raymart_graphql.fields import resolved
from raymart_graphql.relay import global_id
from raymart_graphql.scalars import Money
from raymart_graphql.schema.supply.types import ProviderNode
from raymart_marketplace.metering import models


@strawberry.type(description="One try of a customer's request on one of the provider's machines.")
class ProviderAttempt:
    """For the provider's members. It names the request, which tells them nothing, and not the customer."""

    uuid: strawberry.Private[UUID]
    request_uuid: strawberry.Private[UUID]
    provider_uuid: strawberry.Private[UUID]
    endpoint_uuid: strawberry.Private[UUID]
    node_uuid: strawberry.Private[UUID]
    id: strawberry.ID = strawberry.field(description="Id of the attempt.")
    request_id: strawberry.ID = strawberry.field(
        description="Id of the request, as the replica was told; for support."
    )
    endpoint_id: strawberry.ID = strawberry.field(description="Id of the endpoint that was tried.")
    position: int = strawberry.field(description="0 when it was the request's first try.")
    outcome: AttemptOutcome = strawberry.field(description="How it ended.")
    fault: Fault = strawberry.field(description="Whose failure ended it.")
    reason: str = strawberry.field(description="What went wrong, for people; empty when nothing did.")
    tokens_delivered: int = strawberry.field(description="Tokens that reached the customer.")
    created_at: datetime = strawberry.field(description="When it began.")
    first_token_ms: int | None = strawberry.field(
        description="Milliseconds to its first token; null without one, and for most answers that are not streamed."
    )
    duration_ms: int = strawberry.field(description="Milliseconds to its end.")

    @classmethod
    def of(cls, row: models.Attempt) -> "ProviderAttempt":
        """`row` as its provider sees it."""
        return cls(
            uuid=row.id,
            request_uuid=row.request_id,
            provider_uuid=row.provider_id,
            endpoint_uuid=row.endpoint_id,
            node_uuid=row.node_id,
            id=global_id(Prefix.ATTEMPT, row.id),
            request_id=global_id(Prefix.REQUEST, row.request_id),
            endpoint_id=global_id(Prefix.ENDPOINT, row.endpoint_id),
            position=row.position,
            outcome=row.outcome,
            fault=row.fault,
            reason=row.reason,
            tokens_delivered=row.tokens_delivered,
            created_at=row.created_at,
            first_token_ms=row.first_token_ms,
            duration_ms=row.duration_ms,
        )

    @resolved("The machine.")
    async def node(self, info: Info) -> ProviderNode:
        """Its node."""
        return await info.context.loaders.supply.node.load_known(self.node_uuid)

    @resolved(
        "What the provider earned by it; null when the request was not billed, or not for this attempt."
    )
    async def earned(self, info: Info) -> Money | None:
        """The provider's part of what the attempt delivered of the request."""
        if not self.tokens_delivered:
            return None
        records = await info.context.loaders.usage.usage_of_request.load(self.request_uuid)
        attempts = await info.context.loaders.usage.attempts_of_request.load(self.request_uuid)
        # An endpoint that delivered twice has as many records as attempts, in the same order.
        before = sum(
            bool(attempt.tokens_delivered) and attempt.endpoint_id == self.endpoint_id
            for attempt in attempts
            if attempt.position < self.position
        )
        own = [record for record in records if record.row.endpoint_id == self.endpoint_uuid]
        return own[before].provider_amount() if before < len(own) else None
