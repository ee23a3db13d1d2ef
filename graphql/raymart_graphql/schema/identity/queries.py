"""Who is asking, and organizations by id."""

from typing import Annotated
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.permissions import may_see
from raymart_graphql.relay import Connection, Page, parse_global_id
from raymart_graphql.schema.identity.types import Organization, User
from raymart_graphql.schema.sessions.queries import open_sessions_page
from raymart_graphql.schema.sessions.types import Session
from raymart_marketplace.accounts import models
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.accounts.second_factor import enrolled


@strawberry.type(description="Who is asking.")
class Viewer:
    """The person behind the access token."""

    user_uuid: strawberry.Private[UUID]

    @resolved("The person.")
    async def user(self, info: Info) -> User:
        """The viewer's own account."""
        return await info.context.loaders.identity.user.load_known(self.user_uuid)

    @resolved("Whether an authenticator app is enrolled, so that logging in takes a code.")
    async def has_second_factor(self, info: Info) -> bool:
        """By the confirmed app."""
        async with info.context.reading.trusted_session() as session:
            return await enrolled(session, self.user_uuid) is not None

    @listed("Where the person is logged in, newest first.")
    async def sessions(self, info: Info, page: Page) -> Connection[Session]:
        """Open sessions."""
        return await open_sessions_page(info.context, self.user_uuid, page)

    @listed("Organizations the person is a member of, oldest first.")
    async def organizations(self, info: Info, page: Page) -> Connection[Organization]:
        """By the viewer's memberships."""
        principal = await info.context.principal()
        async with info.context.reading.session() as session:
            return await page_of(session, _organizations(list(principal.standings)), page)


@strawberry.type
class IdentityQuery:
    """Root fields of the domain."""

    @resolved("Who is asking.")
    async def viewer(self, info: Info) -> Viewer:
        """The person behind the access token."""
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        return Viewer(user_uuid=principal.user_id)

    @resolved("An organization that the viewer belongs to; null for any other id.")
    async def organization(
        self,
        info: Info,
        item_id: Annotated[strawberry.ID, strawberry.argument(name="id", description="Global id.")],
    ) -> Organization | None:
        """By id, for members and administrators."""
        organization_id = parse_global_id(Prefix.ORGANIZATION, item_id, field="id")
        found = await info.context.loaders.identity.organization.load(organization_id)
        return (
            found
            if found is not None and await may_see(info.context, found, Permission.ORGANIZATION_READ)
            else None
        )


def _organizations(ids: list[UUID]) -> Listing[models.Organization, Organization]:
    return Listing(
        name="organizations",
        entity=models.Organization,
        key=models.Organization.id,
        show=Organization.of,
        where=(models.Organization.id.in_(ids),),
    )
