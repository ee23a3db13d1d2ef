"""Loaders of members, invitations and support's looks."""

from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.members.types import Invitation, Member, SupportAccess
from raymart_marketplace.accounts import invitation_models as invitations
from raymart_marketplace.accounts.models import Membership


class MemberLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.of_organization = self._pages(MEMBERS, Membership.organization_id)
        self.invitations_of_organization = self._pages(INVITATIONS, invitations.Invitation.organization_id)
        self.support_of_organization = self._pages(SUPPORT, invitations.SupportAccess.organization_id)


MEMBERS = Listing(name="members", entity=Membership, key=Membership.id, show=Member.of)
INVITATIONS = Listing(
    name="invitations",
    entity=invitations.Invitation,
    key=invitations.Invitation.id,
    show=Invitation.of,
    newest_first=True,
)
SUPPORT = Listing(
    name="support_accesses",
    entity=invitations.SupportAccess,
    key=invitations.SupportAccess.id,
    show=SupportAccess.of,
    newest_first=True,
)
