"""Members, invitations, and who of the platform may look in."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.enums import Role
from raymart_graphql.fields import resolved
from raymart_graphql.schema.identity.types import User
from raymart_marketplace.accounts import invitation_models, models


@strawberry.type(description="A person in an organization.")
class Member:
    """A membership."""

    user_uuid: strawberry.Private[UUID]
    role: Role = strawberry.field(description="What the person is there.")
    created_at: datetime = strawberry.field(description="Since when.")

    @classmethod
    def of(cls, row: models.Membership) -> "Member":
        """`row` as the API shows it."""
        return cls(user_uuid=row.user_id, role=row.role, created_at=row.created_at)

    @resolved("Who it is.")
    async def user(self, info: Info) -> User:
        """The person."""
        return await info.context.loaders.identity.user.load_known(self.user_uuid)


@strawberry.type(description="A role that was offered to an e-mail address.")
class Invitation:
    """The token is in the mail alone."""

    email: str = strawberry.field(description="Whom it is for.")
    role: Role = strawberry.field(description="What they will be.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime = strawberry.field(description="Until when it can be accepted.")
    accepted_at: datetime | None = strawberry.field(description="When it was accepted; null if it was not.")
    revoked_at: datetime | None = strawberry.field(
        description="When it was taken back, or replaced by a newer one; null if it was not."
    )

    @classmethod
    def of(cls, row: invitation_models.Invitation) -> "Invitation":
        """`row` as the API shows it."""
        return cls(
            email=row.email,
            role=row.role,
            created_at=row.created_at,
            expires_at=row.expires_at,
            accepted_at=row.accepted_at,
            revoked_at=row.revoked_at,
        )


@strawberry.type(description="A look of the platform's support into an organization.")
class SupportAccess:
    """Reading only, for hours."""

    user_uuid: strawberry.Private[UUID]
    reason: str = strawberry.field(description="What for.")
    created_at: datetime = strawberry.field(description="From when.")
    expires_at: datetime = strawberry.field(description="Until when at most; 8 hours is the longest.")
    closed_at: datetime | None = strawberry.field(
        description="When it was ended before that; null if it was not."
    )

    @classmethod
    def of(cls, row: invitation_models.SupportAccess) -> "SupportAccess":
        """`row` as the API shows it."""
        return cls(
            user_uuid=row.user_id,
            reason=row.reason,
            created_at=row.created_at,
            expires_at=row.expires_at,
            closed_at=row.closed_at,
        )

    @resolved("Who looks.")
    async def user(self, info: Info) -> User:
        """The person."""
        return await info.context.loaders.identity.user.load_known(self.user_uuid)
