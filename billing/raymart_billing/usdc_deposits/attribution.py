"""Whose payment it is, and whether a person must look at it before it is credited."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.usdc_deposits.arrivals import Arrival
from raymart_billing.usdc_deposits.models import Attribution, SenderMark, UsdcSender, UsdcTopUp

_ERASED = text(
    "select exists (select from organization_erasure where organization_id = :id and erased_at is not null)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """What is known of an arrival's owner. Not an expired or used request: a late payment is its customer's as well."""

    top_up_id: UUID | None = None
    reference: str | None = None
    organization_id: UUID | None = None
    by: Attribution | None = None
    held_reason: str | None = None
    """Why it is not credited by itself; None when it is."""


async def attribute(session: AsyncSession, arrival: Arrival) -> Attributed:
    """By a request's reference among the accounts, else by the memo, else nobody's."""
    found = await _by_request(session, arrival)
    if found.organization_id is None:
        return found
    bad = await blocked_among(session, arrival.wallets)
    if bad:
        return _held(found, f"it was paid by {', '.join(bad)}, a sender that is blocked")
    if await session.scalar(_ERASED, {"id": found.organization_id}):
        return Attributed(reference=found.reference, held_reason="its customer was erased")
    return found


async def blocked_among(session: AsyncSession, wallets: Collection[str]) -> Sequence[str]:
    """Those of `wallets` that are known to be bad, in order."""
    return await _marked(session, wallets, SenderMark.BLOCKED)


async def exchanges_among(session: AsyncSession, wallets: Collection[str]) -> Sequence[str]:
    """Those of `wallets` that are an exchange's, in order."""
    return await _marked(session, wallets, SenderMark.EXCHANGE)


async def _by_request(session: AsyncSession, arrival: Arrival) -> Attributed:
    for by, references in (
        (Attribution.REFERENCE, arrival.keys),
        (Attribution.MEMO, arrival.memo_references),
    ):
        query = select(UsdcTopUp).where(UsdcTopUp.reference.in_(references)).order_by(UsdcTopUp.id)
        requests = (await session.scalars(query)).all()
        if len({request.organization_id for request in requests}) > 1:
            return Attributed(held_reason=f"its {by.value} names requests of several customers")
        if requests:
            return Attributed(
                top_up_id=requests[0].id,
                reference=requests[0].reference,
                organization_id=requests[0].organization_id,
                by=by,
            )
    return Attributed(held_reason="it names no request")


def _held(found: Attributed, reason: str) -> Attributed:
    return Attributed(
        top_up_id=found.top_up_id,
        reference=found.reference,
        organization_id=found.organization_id,
        by=found.by,
        held_reason=reason,
    )


async def _marked(session: AsyncSession, wallets: Collection[str], mark: SenderMark) -> Sequence[str]:
    query = select(UsdcSender.wallet).where(UsdcSender.wallet.in_(wallets), UsdcSender.mark == mark)
    return sorted((await session.scalars(query)).all())
