"""What the marketplace rules: rate cards, caps and fees. Functions flush; the edge commits.

Nothing published is changed. A new version ends the one it replaces at the moment it takes effect, which is now or
later by the database's clock; where that would leave two effective at once, it is refused here with a sentence and by
an exclusion constraint besides. Each function locks what its versions are counted by, so two at once queue.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_core.units import Unit
from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.pricing.book import database_now, load_book
from raymart_marketplace.pricing.effective import caps_of
from raymart_marketplace.pricing.models import (
    PRICE_NANO_USD_MAX,
    REASON_CHARACTERS_MAX,
    FeeSchedule,
    Price,
    PriceCap,
    RateCard,
    RateCardState,
)
from raymart_marketplace.supply.models import Provider

_CAPS_LOCK = 7_240_010
_FEES_LOCK = 7_240_011
"""Advisory locks: a cap for everything and a schedule for everybody have no row to lock."""

Dated = RateCard | PriceCap | FeeSchedule
Scheduled = TypeVar("Scheduled", PriceCap, FeeSchedule)


async def publish_rate_card(
    session: AsyncSession,
    *,
    model_id: UUID,
    prices: Mapping[Unit, int],
    revision_id: UUID | None = None,
    effective_from: datetime | None = None,
    effective_to: datetime | None = None,
    actor_id: UUID | None,
) -> RateCard:
    """Publish the next version of the model's prices (nano-USD per unit), or of one revision's; effective now if no time is given.

    Whatever card is effective at that moment ends then. Locks the model's row.
    Raises: InvalidRequest for a price outside its range or above a cap, or a time that is past; NotFound; Conflict when
    a later card is scheduled already.
    """
    await _lock_model(session, model_id)
    if revision_id is not None:
        await _check_revision(session, model_id, revision_id)
    if not prices:
        raise InvalidRequest("a rate card has a price of one unit at least", param="prices")
    for unit, price in prices.items():
        check_price(unit, price, param="prices")
    starts = await _start(session, effective_from, effective_to)
    await check_caps(session, prices, model_id=model_id, at=starts, what="price", param="prices")
    same = (RateCard.model_id == model_id, RateCard.revision_id.is_not_distinct_from(revision_id))
    earlier = (await session.scalars(select(RateCard).where(*same).order_by(RateCard.version))).all()
    card = RateCard(
        id=new_id(),
        model_id=model_id,
        revision_id=revision_id,
        version=len(earlier) + 1,
        effective_from=starts,
        effective_to=effective_to,
        state=RateCardState.DRAFT,
        created_by=actor_id,
    )
    _make_room(earlier, starts=starts, ends=effective_to)
    session.add(card)
    await session.flush()
    session.add_all(
        Price(rate_card_id=card.id, unit=unit, nano_usd=price) for unit, price in sorted(prices.items())
    )
    await session.flush()
    card.state = RateCardState.PUBLISHED
    await session.flush()
    return card


async def retire_rate_card(
    session: AsyncSession, *, model_id: UUID, version: int, revision_id: UUID | None = None
) -> RateCard:
    """End a card now, or one that has not begun before it begins; a repeat is a no-op. Locks the model's row.

    Offers without asks of their own then cannot be sold. Raises: NotFound.
    """
    await _lock_model(session, model_id)
    card = await session.scalar(
        select(RateCard).where(
            RateCard.model_id == model_id,
            RateCard.revision_id.is_not_distinct_from(revision_id),
            RateCard.version == version,
        )
    )
    if card is None:
        raise NotFound(
            f"{show(Prefix.MODEL, model_id)} has no rate card of version {version}", param="version"
        )
    now = await database_now(session)
    if card.state is RateCardState.PUBLISHED and (card.effective_to is None or card.effective_to > now):
        card.effective_to = max(now, card.effective_from)
        card.state = RateCardState.RETIRED
        await session.flush()
    return card


async def set_price_cap(
    session: AsyncSession,
    *,
    unit: Unit,
    max_nano_usd: int | None,
    reason: str,
    model_id: UUID | None = None,
    effective_from: datetime | None = None,
    effective_to: datetime | None = None,
    actor_id: UUID | None,
) -> PriceCap | None:
    """Cap what anybody may ask for `unit` (nano-USD), everywhere or of one model; None ends the cap there is.

    Asks above it stay as they are and sell at the cap, or not at all where it is below their floor (`effective`).
    Takes a lock that all caps share. Raises: InvalidRequest; NotFound; Conflict when a later cap is scheduled already.
    """
    await session.execute(select(func.pg_advisory_xact_lock(_CAPS_LOCK)))
    if model_id is not None:
        await _lock_model(session, model_id)
    if max_nano_usd is not None:
        check_price(unit, max_nano_usd, param="max")
    starts = await _start(session, effective_from, effective_to)
    scope = (PriceCap.unit == unit, PriceCap.model_id.is_not_distinct_from(model_id))
    _make_room(await _effective_later(session, PriceCap, *scope), starts=starts, ends=effective_to)
    cap = None
    if max_nano_usd is not None:
        cap = PriceCap(
            id=new_id(),
            unit=unit,
            model_id=model_id,
            max_nano_usd=max_nano_usd,
            effective_from=starts,
            effective_to=effective_to,
            reason=_checked_reason(reason),
            created_by=actor_id,
        )
        await session.flush()
        session.add(cap)
    await session.flush()
    return cap


async def set_fee_schedule(
    session: AsyncSession,
    *,
    basis_points: int,
    reason: str,
    provider_id: UUID | None = None,
    model_id: UUID | None = None,
    effective_from: datetime | None = None,
    effective_to: datetime | None = None,
    actor_id: UUID | None,
) -> FeeSchedule:
    """Set the platform's share (basis points), for all or for one provider, one model, or one provider's one model.

    The most specific one binds. Takes a lock that all schedules share.
    Raises: InvalidRequest; NotFound; Conflict when a later one of the same scope is scheduled already.
    """
    await session.execute(select(func.pg_advisory_xact_lock(_FEES_LOCK)))
    if type(basis_points) is not int or not 0 <= basis_points <= 10_000:
        raise InvalidRequest(
            f"a fee of {basis_points!r} basis points is outside 0 to 10000, which is all of it",
            param="basis_points",
        )
    if model_id is not None:
        await _lock_model(session, model_id)
    if provider_id is not None and await session.get(Provider, provider_id) is None:
        raise NotFound(f"there is no provider {show(Prefix.PROVIDER, provider_id)!r}", param="provider_id")
    starts = await _start(session, effective_from, effective_to)
    scope = (
        FeeSchedule.provider_id.is_not_distinct_from(provider_id),
        FeeSchedule.model_id.is_not_distinct_from(model_id),
    )
    _make_room(await _effective_later(session, FeeSchedule, *scope), starts=starts, ends=effective_to)
    await session.flush()
    newest = await session.scalar(select(func.max(FeeSchedule.version)))
    schedule = FeeSchedule(
        id=new_id(),
        version=(newest or 0) + 1,
        basis_points=basis_points,
        provider_id=provider_id,
        model_id=model_id,
        effective_from=starts,
        effective_to=effective_to,
        reason=_checked_reason(reason),
        created_by=actor_id,
    )
    session.add(schedule)
    await session.flush()
    return schedule


def check_price(unit: Unit, price: object, *, param: str) -> None:
    """Raises: InvalidRequest unless `price` is a whole number of nano-USD in the range that a price may have."""
    if type(price) is not int or not 0 <= price <= PRICE_NANO_USD_MAX:
        raise InvalidRequest(
            f"{price!r} nano-USD for {unit.value} is no whole number from 0 to {PRICE_NANO_USD_MAX}",
            param=param,
        )


async def check_caps(
    session: AsyncSession, prices: Mapping[Unit, int], *, model_id: UUID, at: datetime, what: str, param: str
) -> None:
    """Raises: InvalidRequest when one of `prices` is above the cap of `at`; `what` names them in the sentence."""
    book = await load_book(session, fee_basis_points=0)
    caps = caps_of(book, model_id=model_id, at=at)
    for unit, price in prices.items():
        if unit in caps and price > caps[unit]:
            raise InvalidRequest(
                f"the {what} of {price} nano-USD for {unit.value} is above the cap of {caps[unit]}; "
                f"ask {caps[unit]} at most",
                param=param,
            )


def _make_room(earlier: Sequence[Dated], *, starts: datetime, ends: datetime | None) -> None:
    """End what is effective at `starts`. Raises: Conflict when something begins later but before `ends`."""
    for row in earlier:
        if row.effective_to is not None and row.effective_to <= starts:
            continue
        if row.effective_from > starts:
            if row.effective_to == row.effective_from or (ends is not None and ends <= row.effective_from):
                continue
            raise Conflict(
                f"another one takes effect at {row.effective_from.isoformat()}; "
                "let this one end by then, or take effect later than that",
                param="effective_to",
            )
        row.effective_to = starts
        if isinstance(row, RateCard):
            row.state = RateCardState.RETIRED


async def _start(
    session: AsyncSession, effective_from: datetime | None, effective_to: datetime | None
) -> datetime:
    """When it takes effect. Raises: InvalidRequest for a time that is past, or an end before the start."""
    now = await database_now(session)
    starts = effective_from or now
    if starts < now:
        raise InvalidRequest(
            f"{starts.isoformat()} is past; it is {now.isoformat()}, and prices take effect now or later",
            param="effective_from",
        )
    if effective_to is not None and effective_to <= starts:
        raise InvalidRequest(
            f"the end {effective_to.isoformat()} is not after the start {starts.isoformat()}",
            param="effective_to",
        )
    return starts


async def _effective_later(
    session: AsyncSession, entity: type[Scheduled], *scope: ColumnElement[bool]
) -> Sequence[Scheduled]:
    not_over = or_(entity.effective_to.is_(None), entity.effective_to > func.clock_timestamp())
    return (await session.scalars(select(entity).where(*scope, not_over))).all()


async def _lock_model(session: AsyncSession, model_id: UUID) -> None:
    """Raises: NotFound."""
    found = await session.scalar(select(Model.id).where(Model.id == model_id).with_for_update(key_share=True))
    if found is None:
        raise NotFound(f"there is no model {show(Prefix.MODEL, model_id)!r}", param="model_id")


async def _check_revision(session: AsyncSession, model_id: UUID, revision_id: UUID) -> None:
    revision = await session.get(ModelRevision, revision_id)
    if revision is None or revision.model_id != model_id:
        raise NotFound(
            f"the model has no revision {show(Prefix.REVISION, revision_id)!r}", param="revision_id"
        )


def _checked_reason(text: str) -> str:
    reason = text.strip()
    if not 1 <= len(reason) <= REASON_CHARACTERS_MAX or "\0" in reason:
        raise InvalidRequest(
            f"a reason has 1 to {REASON_CHARACTERS_MAX} characters, not {len(reason)}; say why",
            param="reason",
        )
    return reason
