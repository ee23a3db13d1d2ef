"""A request with its attempts and what it was billed, for the one who asked for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.metering.models import Attempt, Request, UsageRecord
from raymart_marketplace.metering.parts import of_requests
from raymart_marketplace.supply.models import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What is recorded of a request."""

    request: Request
    attempts: Sequence[Attempt]
    """In their order; the last is the one that ended it."""
    parts: Sequence[UsageRecord]
    """What is billed, in the order of delivery; none when nothing was delivered."""
    providers: Mapping[UUID, str]
    """Slugs of all that are named."""


async def read_generation(session: AsyncSession, caller: Caller, request_id: UUID) -> Generation | None:
    """The request, if it is recorded and `caller` may see it: who asked, or a key that may read its project's usage."""
    request = await session.scalar(select(Request).where(Request.id == request_id, *_visible_to(caller)))
    if request is None:
        return None
    tries = select(Attempt).where(Attempt.request_id == request_id).order_by(Attempt.position)
    attempts = (await session.scalars(tries)).all()
    billed = select(UsageRecord).where(of_requests((request_id,))).order_by(UsageRecord.part)
    parts = (await session.scalars(billed)).all()
    named = {attempt.provider_id for attempt in attempts} | {part.provider_id for part in parts}
    providers = await session.scalars(select(Provider).where(Provider.id.in_(named)))
    slugs = {provider.id: provider.slug for provider in providers}
    return Generation(request=request, attempts=attempts, parts=parts, providers=slugs)


def _visible_to(caller: Caller) -> Sequence[ColumnElement[bool]]:
    own = [Request.organization_id == caller.organization_id]
    if caller.api_key_id is None:
        # A person's role was asked about inference only, so this is about their own requests.
        return [*own, Request.user_id == caller.user_id]
    own.append(Request.project_id == caller.project_id)
    if KeyScope.USAGE_READ not in caller.scopes:
        own.append(Request.api_key_id == caller.api_key_id)
    return own
