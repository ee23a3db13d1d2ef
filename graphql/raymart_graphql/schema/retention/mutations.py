"""Switching the retention of prompts on and off."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.identity.types import ApiKey
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.retention.service import set_prompt_retention


@strawberry.input(description="How long prompts and completions of a key are kept.")
class SetPromptRetentionInput:
    """A key of the viewer's organization."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key.")
    days: int = strawberry.field(
        description="0 to 30 days from the request; 0 keeps nothing and deletes what is kept at once."
    )


@strawberry.type(description="What setPromptRetention gives back.")
class SetPromptRetentionPayload(Payload):
    """The key, or why it is not changed."""

    api_key: ApiKey | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type
class RetentionMutation:
    """Root fields of the domain."""

    @mutation(
        "Keep prompts and completions of an API key's requests, encrypted, for some days; or no longer. Nothing of "
        "them is kept without this."
    )
    async def set_prompt_retention(
        self, info: Info, input_: SetPromptRetentionInput
    ) -> SetPromptRetentionPayload:
        """Counts for requests that arrive from now on; switching it off deletes at once."""
        api_key_id = parse_global_id(Prefix.API_KEY, input_.api_key_id, field="api_key_id")
        async with info.context.writing() as session:
            row = await set_prompt_retention(session, api_key_id=api_key_id, days=input_.days)
        await info.context.services.forgetting.key(api_key_id)
        return SetPromptRetentionPayload(api_key=ApiKey.of(row))
