"""From tables to what `pricing.effective` reads. Three statements for the book, two for the terms of many offers."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from raymart_core.units import Unit
from raymart_marketplace.pricing.effective import Cap, Card, Fee, OfferTerms, PriceBook, Window
from raymart_marketplace.pricing.models import (
    FeeSchedule,
    OfferAsk,
    OfferWindow,
    OfferWindowAsk,
    Price,
    PriceCap,
    RateCard,
    RateCardState,
)
from raymart_marketplace.pricing.windows import Hours


async def database_now(session: AsyncSession) -> datetime:
    """The moment by the database's clock; of pricing, no other clock counts."""
    now = await session.scalar(select(func.clock_timestamp()))
    assert isinstance(now, datetime)
    return now


async def load_book(session: AsyncSession, *, fee_basis_points: int) -> PriceBook:
    """What is effective now or later; `fee_basis_points` is the share where no schedule says otherwise."""
    return PriceBook(
        cards=await _cards(session),
        caps=await _caps(session),
        fees=await _fees(session),
        fee_basis_points=fee_basis_points,
    )


async def load_terms(session: AsyncSession, offer_ids: Collection[UUID]) -> Mapping[UUID, OfferTerms]:
    """What each of these offers asks; nothing for those unknown."""
    asks: dict[UUID, dict[Unit, int]] = defaultdict(dict)
    floors: dict[UUID, dict[Unit, int]] = defaultdict(dict)
    statement = select(OfferAsk.offer_id, OfferAsk.unit, OfferAsk.price_nano_usd, OfferAsk.floor_nano_usd)
    for offer_id, unit, price, floor in await session.execute(
        statement.where(OfferAsk.offer_id.in_(offer_ids))
    ):
        if price is not None:
            asks[offer_id][unit] = price
        if floor:
            floors[offer_id][unit] = floor
    windows = await load_windows(session, offer_ids)
    return {
        offer_id: OfferTerms(
            asks=asks[offer_id], floors=floors[offer_id], windows=tuple(windows.get(offer_id, {}).values())
        )
        for offer_id in offer_ids
    }


async def load_windows(
    session: AsyncSession, offer_ids: Collection[UUID]
) -> Mapping[UUID, Mapping[UUID, Window]]:
    """The windows of each offer by their id, in the order in which they were set."""
    statement = (
        select(OfferWindow, OfferWindowAsk.unit, OfferWindowAsk.price_nano_usd)
        .outerjoin(OfferWindowAsk, OfferWindowAsk.window_id == OfferWindow.id)
        .where(OfferWindow.offer_id.in_(offer_ids))
        .order_by(OfferWindow.id)
    )
    rows: dict[UUID, OfferWindow] = {}
    asks: dict[UUID, dict[Unit, int]] = defaultdict(dict)
    for row, unit, price in await session.execute(statement):
        rows[row.id] = row
        if unit is not None:
            asks[row.id][unit] = price
    found: dict[UUID, dict[UUID, Window]] = defaultdict(dict)
    for row in rows.values():
        hours = Hours(days=frozenset(row.days), starts_minute=row.starts_minute, ends_minute=row.ends_minute)
        found[row.offer_id][row.id] = Window(hours=hours, basis_points=row.basis_points, asks=asks[row.id])
    return found


async def _cards(session: AsyncSession) -> tuple[Card, ...]:
    statement = (
        select(RateCard, Price.unit, Price.nano_usd)
        .outerjoin(Price, Price.rate_card_id == RateCard.id)
        .where(RateCard.state != RateCardState.DRAFT, _not_over(RateCard.effective_to))
        .order_by(RateCard.id)
    )
    rows: dict[UUID, RateCard] = {}
    prices: dict[UUID, dict[Unit, int]] = defaultdict(dict)
    for row, unit, nano_usd in await session.execute(statement):
        rows[row.id] = row
        if unit is not None:
            prices[row.id][unit] = nano_usd
    return tuple(
        Card(
            starts=row.effective_from,
            ends=row.effective_to,
            model_id=row.model_id,
            revision_id=row.revision_id,
            prices=prices[row.id],
        )
        for row in rows.values()
    )


async def _caps(session: AsyncSession) -> tuple[Cap, ...]:
    found = await session.scalars(
        select(PriceCap).where(_not_over(PriceCap.effective_to)).order_by(PriceCap.id)
    )
    return tuple(
        Cap(
            starts=row.effective_from,
            ends=row.effective_to,
            unit=row.unit,
            model_id=row.model_id,
            max_nano_usd=row.max_nano_usd,
        )
        for row in found
    )


async def _fees(session: AsyncSession) -> tuple[Fee, ...]:
    found = await session.scalars(
        select(FeeSchedule).where(_not_over(FeeSchedule.effective_to)).order_by(FeeSchedule.id)
    )
    return tuple(
        Fee(
            starts=row.effective_from,
            ends=row.effective_to,
            provider_id=row.provider_id,
            model_id=row.model_id,
            basis_points=row.basis_points,
        )
        for row in found
    )


def _not_over(effective_to: InstrumentedAttribute[datetime | None]) -> ColumnElement[bool]:
    return or_(effective_to.is_(None), effective_to > func.clock_timestamp())
