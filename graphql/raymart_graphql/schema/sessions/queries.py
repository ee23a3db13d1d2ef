"""The viewer's sessions."""

from uuid import UUID

from raymart_graphql.context import Operation
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.sessions.types import Session
from raymart_marketplace.accounts.session_models import UserSession
from raymart_marketplace.accounts.sessions import is_open


async def open_sessions_page(operation: Operation, user_id: UUID, page: Page) -> Connection[Session]:
    """A page of the user's open sessions, newest first."""
    listing = Listing(
        name="sessions",
        entity=UserSession,
        key=UserSession.id,
        show=Session.of,
        newest_first=True,
        where=(UserSession.user_id == user_id, *is_open()),
    )
    async with operation.reading.session() as session:
        return await page_of(session, listing, page)
