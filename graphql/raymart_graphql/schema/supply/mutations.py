"""What providers change: who joins, and what they ask."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import strawberry
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import NodeRole, PoolKind
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.pricing.reprice import reprice
from raymart_graphql.schema.pricing.units import UnitAskInput, offer_asks
from raymart_graphql.schema.supply.join_tokens import JoinToken
from raymart_graphql.schema.supply.types import Offer, Pool
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.supply import models, service

JOIN_TOKEN_TTL_S_MAX = 3_600


@strawberry.input(description="A one-time token that turns a machine into a node.")
class CreateJoinTokenInput:
    """For one of the provider's machines."""

    provider_id: strawberry.ID = strawberry.field(description="Whose machine joins.")
    pool_id: strawberry.ID = strawberry.field(
        description="Which pool it joins: a house pool or the provider's own."
    )
    role: NodeRole = strawberry.field(default=NodeRole.NODE, description="What the machine does there.")
    ttl_seconds: int = strawberry.field(
        default=JOIN_TOKEN_TTL_S_MAX,
        description=f"How long the token can be used, 60 to {JOIN_TOKEN_TTL_S_MAX} seconds.",
    )


@strawberry.type(description="What createJoinToken gives back.")
class CreateJoinTokenPayload(Payload):
    """The token, or why there is none."""

    token: str | None = strawberry.field(
        default=None,
        description="For `raymart-provider join --token`, shown this once; null when there are user errors.",
    )
    expires_at: datetime | None = strawberry.field(
        default=None, description="When it can no longer be used; null when there are user errors."
    )
    pool: Pool | None = strawberry.field(
        default=None, description="The pool; null when there are user errors."
    )
    join_token: JoinToken | None = strawberry.field(
        default=None, description="What is kept of it, to revoke it by; null when there are user errors."
    )


@strawberry.input(description="New prices of an offer, in US dollars per token, at most 9 decimal places.")
class SetOfferAsksInput:
    """Requests that are running keep the price they began with. What is not named keeps its ask."""

    offer_id: strawberry.ID = strawberry.field(description="Which offer.")
    prompt: Decimal | None = strawberry.field(
        default=None, description="Of one prompt token, such as '0.000000150'; the same as in `asks`."
    )
    completion: Decimal | None = strawberry.field(
        default=None, description="Of one generated token; the same as in `asks`."
    )
    asks: list[UnitAskInput] = strawberry.field(
        default_factory=list, description="Of any unit; without a price it sells at the rate card's."
    )


@strawberry.type(description="What setOfferAsks gives back.")
class SetOfferAsksPayload(Payload):
    """The changed offer, or why it is not."""

    offer: Offer | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type
class SupplyMutation:
    """Root fields of the domain."""

    @mutation("Make a one-time token for one of the provider's machines.")
    async def create_join_token(self, info: Info, input_: CreateJoinTokenInput) -> CreateJoinTokenPayload:
        """Shown once; at most an hour old."""
        provider_id = parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id")
        pool_id = parse_global_id(Prefix.POOL, input_.pool_id, field="pool_id")
        if not 60 <= input_.ttl_seconds <= JOIN_TOKEN_TTL_S_MAX:
            raise InvalidRequest(
                f"{input_.ttl_seconds} is not between 60 and {JOIN_TOKEN_TTL_S_MAX}", param="ttl_seconds"
            )
        principal = await info.context.principal()
        async with info.context.writing() as session:
            pool = await _joinable_pool(session, pool_id, provider_id, input_.role)
            row, token = await service.create_join_token(
                session,
                pool_id=pool_id,
                provider_id=provider_id,
                role=input_.role,
                user_id=principal.user_id,
                ttl_s=input_.ttl_seconds,
            )
            await session.refresh(row, ["created_at", "expires_at"])
        return CreateJoinTokenPayload(
            token=token, expires_at=row.expires_at, pool=Pool.of(pool), join_token=JoinToken.of(row)
        )

    @mutation("Change what an offer asks, from the next request on.")
    async def set_offer_asks(self, info: Info, input_: SetOfferAsksInput) -> SetOfferAsksPayload:
        """All asks at once."""
        asks = offer_asks(input_.asks, prompt=input_.prompt, completion=input_.completion)
        if not asks:
            raise InvalidRequest("name the price of one unit at least", param="asks")
        async with info.context.writing() as session:
            row = await service.set_unit_asks(
                session,
                offer_id=parse_global_id(Prefix.OFFER, input_.offer_id, field="offer_id"),
                asks=asks,
            )
        await reprice(info.context.services.directory)
        return SetOfferAsksPayload(offer=Offer.of(row))


async def _joinable_pool(
    session: AsyncSession, pool_id: UUID, provider_id: UUID, role: NodeRole
) -> models.Pool:
    """The pool, if the provider may join it in this role: who controls a house pool is the platform's choice."""
    pool = await session.scalar(select(models.Pool).where(models.Pool.id == pool_id))
    own = pool is not None and pool.provider_id == provider_id
    house = pool is not None and pool.kind is PoolKind.HOUSE and role is NodeRole.NODE
    if pool is None or not (own or house):
        raise NotFound(
            f"there is no pool that this provider may join as {role.value}; see its `pools`", param="pool_id"
        )
    return pool
