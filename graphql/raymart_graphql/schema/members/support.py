"""Looks of the platform's support into one organization."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.members.inputs import CloseSupportAccessInput, OpenSupportAccessInput
from raymart_graphql.schema.members.payloads import CloseSupportAccessPayload, OpenSupportAccessPayload
from raymart_graphql.schema.members.types import SupportAccess
from raymart_marketplace.accounts import support_access


@strawberry.type
class SupportMutation:
    """Root fields of the domain."""

    @mutation(
        "Look into one organization for some hours, with a reason that its members read; changes nothing."
    )
    async def open_support_access(
        self, info: Info, input_: OpenSupportAccessInput
    ) -> OpenSupportAccessPayload:
        """For the platform's support."""
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        async with info.context.writing() as session:
            made = await support_access.open_access(
                session,
                organization_id=parse_global_id(
                    Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
                ),
                user_id=principal.user_id,
                reason=input_.reason,
                hours=input_.hours,
            )
        return OpenSupportAccessPayload(support_access=SupportAccess.of(made))

    @mutation("End the viewer's look into an organization before its time.")
    async def close_support_access(
        self, info: Info, input_: CloseSupportAccessInput
    ) -> CloseSupportAccessPayload:
        """For the platform's support."""
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        async with info.context.writing() as session:
            closed = await support_access.close_access(
                session,
                organization_id=parse_global_id(
                    Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
                ),
                user_id=principal.user_id,
            )
        return CloseSupportAccessPayload(support_access=SupportAccess.of(closed))
