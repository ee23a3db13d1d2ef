"""What the mutations give back."""

import strawberry

from raymart_graphql.schema.identity.types import Organization, Project
from raymart_graphql.schema.members.types import Invitation, SupportAccess
from raymart_graphql.schema.user_error import Payload


@strawberry.type(description="What createOrganization gives back.")
class CreateOrganizationPayload(Payload):
    """The organization, or why not."""

    organization: Organization | None = strawberry.field(
        default=None, description="The organization as it is now. Null when there are user errors."
    )


@strawberry.type(description="What updateOrganization gives back.")
class UpdateOrganizationPayload(Payload):
    """The organization, or why not."""

    organization: Organization | None = strawberry.field(
        default=None, description="The organization as it is now. Null when there are user errors."
    )


@strawberry.type(description="What changeMemberRole gives back.")
class ChangeMemberRolePayload(Payload):
    """The organization, or why not."""

    organization: Organization | None = strawberry.field(
        default=None, description="The organization as it is now. Null when there are user errors."
    )


@strawberry.type(description="What removeMember gives back.")
class RemoveMemberPayload(Payload):
    """The organization, or why not."""

    organization: Organization | None = strawberry.field(
        default=None, description="The organization as it is now. Null when there are user errors."
    )


@strawberry.type(description="What transferOwnership gives back.")
class TransferOwnershipPayload(Payload):
    """The organization, or why not."""

    organization: Organization | None = strawberry.field(
        default=None, description="The organization as it is now. Null when there are user errors."
    )


@strawberry.type(description="What acceptInvitation gives back.")
class AcceptInvitationPayload(Payload):
    """The organization, or why not."""

    organization: Organization | None = strawberry.field(
        default=None, description="The organization as it is now. Null when there are user errors."
    )


@strawberry.type(description="What leaveOrganization gives back.")
class LeaveOrganizationPayload(Payload):
    """Where one was, or why one still is."""

    organization_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Global id of the organization that was left. Null when there are user errors.",
    )


@strawberry.type(description="What createProject gives back.")
class CreateProjectPayload(Payload):
    """The project, or why not."""

    project: Project | None = strawberry.field(
        default=None, description="The project as it is now. Null when there are user errors."
    )


@strawberry.type(description="What renameProject gives back.")
class RenameProjectPayload(Payload):
    """The project, or why not."""

    project: Project | None = strawberry.field(
        default=None, description="The project as it is now. Null when there are user errors."
    )


@strawberry.type(description="What setAnswerCache gives back.")
class SetAnswerCachePayload(Payload):
    """The project, or why not."""

    project: Project | None = strawberry.field(
        default=None, description="The project as it is now. Null when there are user errors."
    )


@strawberry.type(description="What archiveProject gives back.")
class ArchiveProjectPayload(Payload):
    """The project, or why not."""

    project: Project | None = strawberry.field(
        default=None, description="The project as it is now. Null when there are user errors."
    )


@strawberry.type(description="What inviteMember gives back.")
class InviteMemberPayload(Payload):
    """The invitation, or why there is none."""

    invitation: Invitation | None = strawberry.field(
        default=None, description="The invitation; the mail is on its way. Null when there are user errors."
    )


@strawberry.type(description="What revokeInvitation gives back.")
class RevokeInvitationPayload(Payload):
    """What was taken back, or why not."""

    email: str | None = strawberry.field(
        default=None, description="Address whose invitation is over. Null when there are user errors."
    )


@strawberry.type(description="What openSupportAccess gives back.")
class OpenSupportAccessPayload(Payload):
    """The access, or why not."""

    support_access: SupportAccess | None = strawberry.field(
        default=None, description="The access as it is now. Null when there are user errors."
    )


@strawberry.type(description="What closeSupportAccess gives back.")
class CloseSupportAccessPayload(Payload):
    """The access, or why not."""

    support_access: SupportAccess | None = strawberry.field(
        default=None, description="The access as it is now. Null when there are user errors."
    )
