"""Exports and erasures as the API shows them."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_billing.privacy import models
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.schema.identity.types import User
from raymart_graphql.schema.privacy.enums import ExportState


@strawberry.type(
    description="A copy of all that is an organization's own: a zip of JSON Lines, without secrets."
)
class PrivacyExport:
    """For its owners and admins."""

    requested_by_uuid: strawberry.Private[UUID]
    state: ExportState = strawberry.field(description="How far it has come.")
    path: str | None = strawberry.field(
        description="Where to GET the file, with an access token; null unless it is ready."
    )
    size_bytes: int | None = strawberry.field(description="Length of the file; null until it was written.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    expires_at: datetime | None = strawberry.field(
        description="When the file is deleted, at the latest; null until it was written."
    )

    @classmethod
    def of(cls, row: models.PrivacyExport) -> "PrivacyExport":
        """`row` as the API shows it."""
        is_ready = row.state is ExportState.READY
        return cls(
            requested_by_uuid=row.requested_by,
            state=row.state,
            path=f"/privacy/exports/{row.id.hex}.zip" if is_ready else None,
            size_bytes=row.bytes,
            created_at=row.created_at,
            expires_at=row.expires_at,
        )

    @resolved("Who asked for it; null for somebody who is no member any more.")
    async def requested_by(self, info: Info) -> User | None:
        """The person."""
        return await info.context.loaders.identity.user.load(self.requested_by_uuid)


@strawberry.type(description="The end of an organization: waiting, or done.")
class OrganizationErasure:
    """Visible to its members while there are any, and to administrators."""

    created_at: datetime = strawberry.field(description="When it was asked for.")
    due_at: datetime = strawberry.field(description="Until then it can be cancelled.")
    waits_for: str | None = strawberry.field(
        description="What stood in the way when it was last tried; tried again every day. Null when nothing did."
    )
    erased_at: datetime | None = strawberry.field(description="When it was done; null while it waits.")
    cancelled_at: datetime | None = strawberry.field(
        description="When it was taken back; null if it was not."
    )

    @classmethod
    def of(cls, row: models.OrganizationErasure) -> "OrganizationErasure":
        """`row` as the API shows it."""
        return cls(
            created_at=row.created_at,
            due_at=row.due_at,
            waits_for=row.waits_for,
            erased_at=row.erased_at,
            cancelled_at=row.cancelled_at,
        )
