"""Asking for a copy of what is an organization's own."""

import strawberry

from raymart_billing.privacy.requests import request_export
from raymart_core.errors import Unavailable
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.privacy.types import PrivacyExport
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
                organization_id=parse_global_id(
                    Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
                ),
                user_id=principal.user_id,
            )
        return ExportOrganizationPayload(export=PrivacyExport.of(row))
