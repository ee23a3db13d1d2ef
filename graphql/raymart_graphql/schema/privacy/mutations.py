"""Asking for a copy of what is an organization's own, and for its end."""

from uuid import UUID

import strawberry

from raymart_billing.privacy.erasures import cancel_erasure, request_erasure
from raymart_billing.privacy.requests import request_export
from raymart_core.errors import Unavailable
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.privacy.types import OrganizationErasure, PrivacyExport
from raymart_graphql.schema.user_error import Payload


@strawberry.input(description="Whose copy.")
class ExportOrganizationInput:
    """An organization of the viewer."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")


@strawberry.type(description="What exportOrganization gives back.")
class ExportOrganizationPayload(Payload):
    """The export that will be written, or why not."""

    export: PrivacyExport | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="An organization's end.")
class EraseOrganizationInput:
    """An organization of the viewer."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    confirm_name: str = strawberry.field(description="Its name, exactly as it is: for who means another one.")


@strawberry.type(description="What eraseOrganization gives back.")
class EraseOrganizationPayload(Payload):
    """The erasure that will be done, or why not."""

    erasure: OrganizationErasure | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="An erasure to take back.")
class CancelErasureInput:
    """An organization of the viewer."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")


@strawberry.type(description="What cancelErasure gives back.")
class CancelErasurePayload(Payload):
    """The erasure that will not be done, or why it stands."""

    erasure: OrganizationErasure | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type
class PrivacyMutation:
    """Root fields of the domain."""

    @mutation(
        "Have all that is an organization's own written to a file; `organization.exports` says when it is ready. One at "
        "a time; it can be downloaded for a week, and takes the place of the one before."
    )
    async def export_organization(
        self, info: Info, input_: ExportOrganizationInput
    ) -> ExportOrganizationPayload:
        """A worker writes it."""
        if info.context.services.settings.exports_dir is None:
            raise Unavailable("this marketplace keeps no files; ask its operator for an export")
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        async with info.context.writing() as session:
            row = await request_export(
                session,
                organization_id=_organization(input_.organization_id),
                user_id=principal.user_id,
            )
        return ExportOrganizationPayload(export=PrivacyExport.of(row))

    @mutation(
        "End an organization for good, a week from now: its keys, members and prompts go, and so does what tells who it "
        "was; the books stay. Refused while money is not settled."
    )
    async def erase_organization(
        self, info: Info, input_: EraseOrganizationInput
    ) -> EraseOrganizationPayload:
        """A worker does it."""
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        async with info.context.writing() as session:
            row = await request_erasure(
                session,
                organization_id=_organization(input_.organization_id),
                confirm_name=input_.confirm_name,
                user_id=principal.user_id,
            )
        return EraseOrganizationPayload(erasure=OrganizationErasure.of(row))

    @mutation("Take an erasure back before it is done.")
    async def cancel_erasure(self, info: Info, input_: CancelErasureInput) -> CancelErasurePayload:
        """Nothing has happened until then."""
        async with info.context.writing() as session:
            row = await cancel_erasure(session, organization_id=_organization(input_.organization_id))
        return CancelErasurePayload(erasure=OrganizationErasure.of(row))


def _organization(text: str) -> UUID:
    return parse_global_id(Prefix.ORGANIZATION, text, field="organization_id")
