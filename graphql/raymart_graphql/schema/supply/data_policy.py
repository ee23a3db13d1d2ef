"""What providers say of what they keep."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.routing_enums import DataPolicy
from raymart_graphql.schema.pricing.reprice import reprice
from raymart_graphql.schema.supply.types import Provider
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.supply.data_policies import set_data_policy


@strawberry.input(description="What a provider says that becomes of prompts and answers on its machines.")
class SetDataPolicyInput:
    """Customers may ask for providers that keep nothing; it is held to its word."""

    provider_id: strawberry.ID = strawberry.field(description="Whose machines.")
    data_policy: DataPolicy = strawberry.field(description="What it says.")


@strawberry.type(description="What setDataPolicy gives back.")
class SetDataPolicyPayload(Payload):
    """The provider, or why nothing was changed."""

    provider: Provider | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type
class DataPolicyMutation:
    """Root fields of the domain."""

    @mutation(
        "Say what becomes of prompts and answers, from the next request on. For those who manage offers."
    )
    async def set_data_policy(self, info: Info, input_: SetDataPolicyInput) -> SetDataPolicyPayload:
        """A repeat changes nothing."""
        async with info.context.writing() as session:
            row = await set_data_policy(
                session,
                provider_id=parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id"),
                data_policy=input_.data_policy,
            )
        await reprice(info.context.services.directory)
        return SetDataPolicyPayload(provider=Provider.of(row))
