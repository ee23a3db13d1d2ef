"""API keys."""

from datetime import datetime

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.identity.types import ApiKey
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.accounts import service


@strawberry.input(description="An API key to make.")
class CreateApiKeyInput:
    """For a project of the viewer."""

    project_id: strawberry.ID = strawberry.field(description="Project that its usage belongs to.")
    name: str = strawberry.field(description="Name for people.")
    expires_at: datetime | None = strawberry.field(
        default=None, description="When it ends by itself; null for never."
    )


@strawberry.type(description="What createApiKey gives back.")
class CreateApiKeyPayload(Payload):
    """The key, or why there is none."""

    api_key: ApiKey | None = strawberry.field(default=None, description="Null when there are user errors.")
    secret: str | None = strawberry.field(
        default=None, description="The key itself, shown this once; null when there are user errors."
    )


@strawberry.input(description="An API key to revoke.")
class RevokeApiKeyInput:
    """A key of the viewer's organization."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key.")


@strawberry.type(description="What revokeApiKey gives back.")
class RevokeApiKeyPayload(Payload):
    """The revoked key, or why it is not."""

    api_key: ApiKey | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type
class IdentityMutation:
    """Root fields of the domain."""

    @mutation("Make an API key. The key itself is shown this once.")
    async def create_api_key(self, info: Info, input_: CreateApiKeyInput) -> CreateApiKeyPayload:
        """A key of the viewer's project."""
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        async with info.context.writing() as session:
            row, secret = await service.create_api_key(
                session,
                project_id=parse_global_id(Prefix.PROJECT, input_.project_id, field="project_id"),
                user_id=principal.user_id,
                name=input_.name,
                expires_at=input_.expires_at,
            )
        return CreateApiKeyPayload(api_key=ApiKey.of(row), secret=secret)

    @mutation("End an API key at once; a repeat changes nothing.")
    async def revoke_api_key(self, info: Info, input_: RevokeApiKeyInput) -> RevokeApiKeyPayload:
        """Requests with the key are refused from now on."""
        api_key_id = parse_global_id(Prefix.API_KEY, input_.api_key_id, field="api_key_id")
        async with info.context.writing() as session:
            row = await service.revoke_api_key(session, api_key_id=api_key_id)
        info.context.services.authenticator.forget(api_key_id)
        return RevokeApiKeyPayload(api_key=ApiKey.of(row))
