"""Service accounts as the API shows them."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import Role
from raymart_graphql.fields import listed
from raymart_graphql.relay import Connection, Node, Page, global_id
from raymart_graphql.schema.identity.types import ApiKey
from raymart_marketplace.accounts import models


@strawberry.type(description="A member of an organization that is no person; it has keys, and no password.")
class ServiceAccount(Node):
    """Visible to the organization's members."""

    uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID]
    name: str = strawberry.field(description="Name for people.")
    role: Role = strawberry.field(description="Bounds what its keys may do, whatever their scopes.")
    created_at: datetime = strawberry.field(description="When it was made.")
    disabled_at: datetime | None = strawberry.field(
        description="When it was ended, and all its keys with it; null while it works."
    )

    @classmethod
    def of(cls, row: models.ServiceAccount) -> "ServiceAccount":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.SERVICE_ACCOUNT, row.id),
            uuid=row.id,
            organization_uuid=row.organization_id,
            name=row.name,
            role=row.role,
            created_at=row.created_at,
            disabled_at=row.disabled_at,
        )

    async def owner(self, _operation: Operation) -> UUID:
        """Its organization."""
        return self.organization_uuid

    @listed("Its API keys, revoked ones included, newest first.")
    async def api_keys(self, info: Info, page: Page) -> Connection[ApiKey]:
        """Keys by id."""
        return await info.context.loaders.keys.of_service_account.load((self.uuid, page))
