"""Who may use: organizations, projects, members, and looks of support."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, MemberOfSource, Platform, Rule, SignedIn
from raymart_marketplace.accounts.permissions import Permission


def _of_organization(permission: Permission) -> MemberOf:
    return MemberOf("organization_id", Prefix.ORGANIZATION, permission)


MEMBERS_RULES: Mapping[str, Rule] = {
    "Mutation.createOrganization": SignedIn(),
    "Mutation.updateOrganization": _of_organization(Permission.ORGANIZATION_MANAGE),
    "Mutation.createProject": _of_organization(Permission.ORGANIZATION_MANAGE),
    "Mutation.renameProject": MemberOf("project_id", Prefix.PROJECT, Permission.ORGANIZATION_MANAGE),
    "Mutation.setAnswerCache": MemberOf("project_id", Prefix.PROJECT, Permission.ORGANIZATION_MANAGE),
    "Mutation.archiveProject": MemberOf("project_id", Prefix.PROJECT, Permission.ORGANIZATION_MANAGE),
    "Mutation.inviteMember": _of_organization(Permission.MEMBERS_MANAGE),
    "Mutation.acceptInvitation": SignedIn(),  # The token of the mail, and the address, decide.
    "Mutation.revokeInvitation": _of_organization(Permission.MEMBERS_MANAGE),
    "Mutation.changeMemberRole": _of_organization(Permission.MEMBERS_MANAGE),
    "Mutation.removeMember": _of_organization(Permission.MEMBERS_MANAGE),
    "Mutation.leaveOrganization": SignedIn(),  # The service looks for the viewer's own membership.
    "Mutation.transferOwnership": _of_organization(Permission.ORGANIZATION_OWN),
    "Mutation.openSupportAccess": Platform(Permission.PLATFORM_SUPPORT),
    "Mutation.closeSupportAccess": Platform(Permission.PLATFORM_SUPPORT),
    "Mutation.exportOrganization": _of_organization(Permission.EXPORTS_READ),
    "Mutation.eraseOrganization": _of_organization(Permission.ORGANIZATION_OWN),
    "Mutation.cancelErasure": _of_organization(Permission.ORGANIZATION_OWN),
    "Organization.erasure": MemberOfSource(Permission.ORGANIZATION_READ),
    "Organization.exports": MemberOfSource(Permission.EXPORTS_READ),
    "Organization.members": MemberOfSource(Permission.MEMBERS_READ),
    "Organization.invitations": MemberOfSource(Permission.MEMBERS_READ),
    "Organization.supportAccesses": MemberOfSource(Permission.MEMBERS_READ),
}
