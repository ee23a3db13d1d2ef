"""Making pools, and taking join tokens back."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import PoolKind
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.supply.join_tokens import JoinToken
from raymart_graphql.schema.supply.types import Pool
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.supply.join_tokens import revoke_join_token
from raymart_marketplace.supply.pools import POOLS_MAX, create_own_pool
from raymart_marketplace.supply.service import create_pool

NULL = "Null when there are user errors."
SLUG = "Unique name among all pools, 1 to 40 of a-z, 0-9 and '-'; it stays."
REGION = "Where its machines are, such as 'eu-west': 1 to 40 of a-z, 0-9 and '-'."


@strawberry.input(description="A pool of a provider's own: one Ray cluster of its machines.")
class CreatePoolInput:
    """A provider may have a few."""

    provider_id: strawberry.ID = strawberry.field(description="Whose pool.")
    slug: str = strawberry.field(description=SLUG)
    region: str = strawberry.field(description=REGION)


@strawberry.input(description="A house pool: one Ray cluster of several verified providers' machines.")
class CreateHousePoolInput:
    """Its certificate authority is made when the first machine asks."""

    slug: str = strawberry.field(description=SLUG)
    region: str = strawberry.field(description=REGION)


@strawberry.input(description="A join token that is to be worthless.")
class RevokeJoinTokenInput:
    """One that no machine has used."""

    provider_id: strawberry.ID = strawberry.field(description="Whose token.")
    join_token_id: strawberry.ID = strawberry.field(description="Which token.")


@strawberry.type(description="What createPool gives back.")
class CreatePoolPayload(Payload):
    """The pool, or why there is none."""

    pool: Pool | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What createHousePool gives back.")
class CreateHousePoolPayload(Payload):
    """The pool, or why there is none."""

    pool: Pool | None = strawberry.field(default=None, description=NULL)


@strawberry.type(description="What revokeJoinToken gives back.")
class RevokeJoinTokenPayload(Payload):
    """The token, or why it stands."""

    join_token: JoinToken | None = strawberry.field(default=None, description=NULL)


@strawberry.type
class PoolMutation:
    """Root fields of the domain."""

    @mutation(f"Make a pool of the provider's own; at most {POOLS_MAX} of each.")
    async def create_pool(self, info: Info, input_: CreatePoolInput) -> CreatePoolPayload:
        """Machines join it with a token of `createJoinToken`."""
        async with info.context.writing() as session:
            row = await create_own_pool(
                session,
                provider_id=parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id"),
                slug=input_.slug,
                region=input_.region,
            )
        return CreatePoolPayload(pool=Pool.of(row))

    @mutation("Make a house pool. For administrators.")
    async def create_house_pool(self, info: Info, input_: CreateHousePoolInput) -> CreateHousePoolPayload:
        """All verified providers' machines may join it."""
        async with info.context.writing() as session:
            row = await create_pool(session, slug=input_.slug, kind=PoolKind.HOUSE, region=input_.region)
        return CreateHousePoolPayload(pool=Pool.of(row))

    @mutation("Make a join token worthless before its time. A repeat changes nothing.")
    async def revoke_join_token(self, info: Info, input_: RevokeJoinTokenInput) -> RevokeJoinTokenPayload:
        """From the commit on."""
        async with info.context.writing() as session:
            row = await revoke_join_token(
                session,
                provider_id=parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id"),
                token_id=parse_global_id(Prefix.JOIN_TOKEN, input_.join_token_id, field="join_token_id"),
            )
        return RevokeJoinTokenPayload(join_token=JoinToken.of(row))
