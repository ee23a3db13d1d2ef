"""What the mutations take."""

import strawberry

from raymart_graphql.enums import OrganizationKind, Role


@strawberry.input(description="An organization to make; the viewer becomes its owner.")
class CreateOrganizationInput:
    """A tenant."""

    name: str = strawberry.field(description="Name for people.")
    kind: OrganizationKind = strawberry.field(description="CUSTOMER to buy, PROVIDER to sell.")


@strawberry.input(description="What changes about an organization.")
class UpdateOrganizationInput:
    """Its name."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    name: str = strawberry.field(description="New name for people.")


@strawberry.input(description="A project to make.")
class CreateProjectInput:
    """A part of an organization."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    name: str = strawberry.field(description="Name for people.")


@strawberry.input(description="A project and its new name.")
class RenameProjectInput:
    """The slug stays."""

    project_id: strawberry.ID = strawberry.field(description="Which project.")
    name: str = strawberry.field(description="New name for people.")


@strawberry.input(description="How long a project's answers are given again.")
class SetAnswerCacheInput:
    """For its keys that say nothing of their own."""

    project_id: strawberry.ID = strawberry.field(description="Which project.")
    seconds: int = strawberry.field(
        description="How long, at a share of their price, where neither a request nor its key says; 0 to 86,400, 0 for "
        "not at all."
    )


@strawberry.input(description="A project that is over.")
class ArchiveProjectInput:
    """Its keys end with it."""

    project_id: strawberry.ID = strawberry.field(description="Which project.")


@strawberry.input(description="Whom to invite, and as what.")
class InviteMemberInput:
    """By mail."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    email: str = strawberry.field(
        description="Where the mail goes; only who logs in with this address can accept."
    )
    role: Role = strawberry.field(description="What they will be; at most what the viewer is.")


@strawberry.input(description="What came by mail.")
class AcceptInvitationInput:
    """The token."""

    token: str = strawberry.field(description="From the mail.")


@strawberry.input(description="An invitation to take back.")
class RevokeInvitationInput:
    """By its address."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    email: str = strawberry.field(description="Whom it was for.")


@strawberry.input(description="A member and the new role.")
class ChangeMemberRoleInput:
    """At most the viewer's own."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    user_id: strawberry.ID = strawberry.field(description="Which member.")
    role: Role = strawberry.field(description="What they will be.")


@strawberry.input(description="A member to remove.")
class RemoveMemberInput:
    """Not oneself."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    user_id: strawberry.ID = strawberry.field(description="Which member.")


@strawberry.input(description="An organization to leave.")
class LeaveOrganizationInput:
    """Not as its last owner."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")


@strawberry.input(description="To whom an organization is handed over.")
class TransferOwnershipInput:
    """A member."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    user_id: strawberry.ID = strawberry.field(
        description="Which member becomes owner; the viewer becomes admin."
    )


@strawberry.input(description="What to look into, and why.")
class OpenSupportAccessInput:
    """One organization."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
    reason: str = strawberry.field(description="What for; the organization's members read it.")
    hours: int = strawberry.field(default=1, description="For how long, 1 to 8.")


@strawberry.input(description="What to look into no more.")
class CloseSupportAccessInput:
    """The viewer's own access."""

    organization_id: strawberry.ID = strawberry.field(description="Which organization.")
