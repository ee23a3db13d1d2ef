"""What people type, as the services want it: organizations, people and amounts."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix, parse
from raymart_core.money import Money
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.accounts.service import organization_by_slug, user_by_email


async def organization_id(session: AsyncSession, text: str) -> UUID:
    """The organization with this slug, or with this id when it looks like one. Raises: NotFound."""
    try:
        found = await session.get(Organization, parse(Prefix.ORGANIZATION, text))
    except ValueError:
        found = await organization_by_slug(session, text)
    if found is None:
        raise NotFound(f"there is no organization {text!r}")
    return found.id


async def actor_id(session: AsyncSession, email: str) -> UUID:
    """The user with this address. Raises: NotFound."""
    user = await user_by_email(session, email)
    if user is None:
        raise NotFound(f"no user has the address {email!r}")
    return user.id


def dollars(text: str) -> Money:
    """An amount as people write it. Raises: InvalidRequest."""
    try:
        return Money.parse(text)
    except ValueError as error:
        raise InvalidRequest(str(error), param="amount") from None
