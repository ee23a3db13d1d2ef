"""Join tokens as the provider's members see them: never the token itself."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import NodeRole
from raymart_graphql.fields import resolved
from raymart_graphql.relay import global_id
from raymart_marketplace.supply import models

if TYPE_CHECKING:
    from raymart_graphql.schema.identity.types import User
    from raymart_graphql.schema.supply.types import Pool

LazyUser = Annotated["User", strawberry.lazy("raymart_graphql.schema.identity.types")]
LazyPool = Annotated["Pool", strawberry.lazy("raymart_graphql.schema.supply.types")]


@strawberry.type(description="A one-time token for a machine, without its secret: that is shown once.")
class JoinToken:
    """Visible to the provider's members."""

    pool_uuid: strawberry.Private[UUID]
    creator_uuid: strawberry.Private[UUID | None]
    id: strawberry.ID = strawberry.field(description="Global id, for `revokeJoinToken`.")
    role: NodeRole = strawberry.field(description="What the machine will do.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime = strawberry.field(description="From when on it cannot be used.")

    @classmethod
    def of(cls, row: models.JoinToken) -> "JoinToken":
        """`row` as the API shows it."""
        return cls(
            pool_uuid=row.pool_id,
            creator_uuid=row.created_by,
            id=global_id(Prefix.JOIN_TOKEN, row.id),
            role=row.role,
            created_at=row.created_at,
            expires_at=row.expires_at,
        )

    @resolved("The pool that the machine will be in.")
    async def pool(self, info: Info) -> LazyPool:
        """Its pool."""
        return await info.context.loaders.supply.pool.load_known(self.pool_uuid)

    @resolved("Who made it; null where that is no member (any more), and for an operator at the shell.")
    async def created_by(self, info: Info) -> LazyUser | None:
        """The person."""
        if self.creator_uuid is None:
            return None
        return await info.context.loaders.identity.user.load(self.creator_uuid)
