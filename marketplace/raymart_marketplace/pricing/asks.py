"""What a provider asks: prices by unit, floors, windows. Functions flush; the edge commits.

Every function locks the offer's row, so what it checks stays true until the commit. An ask above a cap, or below the
floor, is refused with value and limit.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import delete, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest
from raymart_core.ids import new_id
from raymart_core.units import Unit
from raymart_marketplace.catalog.models import ModelRevision
from raymart_marketplace.pricing.book import database_now, load_book, load_terms
from raymart_marketplace.pricing.effective import OfferTerms, Window, asked_in_window, card_prices
from raymart_marketplace.pricing.models import (
    WINDOW_BASIS_POINTS_MAX,
    OfferAsk,
    OfferWindow,
    OfferWindowAsk,
)
from raymart_marketplace.pricing.service import check_caps, check_price
from raymart_marketplace.pricing.windows import MINUTES_OF_DAY, overlap
from raymart_marketplace.supply.models import Offer

WINDOWS_MAX = 50
"""Windows of one offer."""


async def write_asks(session: AsyncSession, offer: Offer, asks: Mapping[Unit, int | None]) -> None:
    """Ask these prices (nano-USD per unit), None for the rate card's; units that are not named keep theirs.

    The caller has locked `offer` or just made it. Raises: InvalidRequest.
    """
    terms = await _terms(session, offer)
    prices = {unit: price for unit, price in asks.items() if price is not None}
    for unit, price in prices.items():
        check_price(unit, price, param="asks")
        floor = terms.floors.get(unit, 0)
        if price < floor:
            raise InvalidRequest(
                f"the ask of {price} nano-USD for {unit.value} is below the offer's floor of {floor}; "
                "lower the floor first",
                param="asks",
            )
    model_id = await _model_of(session, offer)
    now = await database_now(session)
    await check_caps(session, prices, model_id=model_id, at=now, what="ask", param="asks")
    if asks:
        made = insert(OfferAsk).values(
            [{"offer_id": offer.id, "unit": unit, "price_nano_usd": price} for unit, price in asks.items()]
        )
        await session.execute(
            made.on_conflict_do_update(
                index_elements=[OfferAsk.offer_id, OfferAsk.unit],
                set_={"price_nano_usd": made.excluded.price_nano_usd},
            )
        )
    if Unit.TOKEN_PROMPT in asks:
        offer.ask_prompt_nano_usd = asks[Unit.TOKEN_PROMPT]
    if Unit.TOKEN_COMPLETION in asks:
        offer.ask_completion_nano_usd = asks[Unit.TOKEN_COMPLETION]
    await session.flush()


async def copy_terms(session: AsyncSession, source: Offer, target: Offer) -> None:
    """Give `target`, which has none yet, the asks, floors and windows of `source`. The caller has locked or made both."""
    target.ask_prompt_nano_usd = source.ask_prompt_nano_usd
    target.ask_completion_nano_usd = source.ask_completion_nano_usd
    asks = select(literal(target.id), OfferAsk.unit, OfferAsk.price_nano_usd, OfferAsk.floor_nano_usd).where(
        OfferAsk.offer_id == source.id
    )
    columns = [OfferAsk.offer_id, OfferAsk.unit, OfferAsk.price_nano_usd, OfferAsk.floor_nano_usd]
    await session.execute(insert(OfferAsk).from_select(columns, asks))
    terms = await _terms(session, source)
    await _add_windows(session, target, terms.windows)


async def write_floors(session: AsyncSession, offer: Offer, floors: Mapping[Unit, int]) -> None:
    """Never sell below these prices (nano-USD per unit; 0 for no floor); units that are not named keep theirs.

    The caller has locked `offer`. Raises: InvalidRequest for a floor above the ask or above the cap.
    """
    terms = await _terms(session, offer)
    for unit, floor in floors.items():
        check_price(unit, floor, param="floors")
        ask = terms.asks.get(unit)
        if ask is not None and floor > ask:
            raise InvalidRequest(
                f"the floor of {floor} nano-USD for {unit.value} is above the offer's ask of {ask}; "
                "raise the ask first",
                param="floors",
            )
    model_id = await _model_of(session, offer)
    now = await database_now(session)
    await check_caps(session, floors, model_id=model_id, at=now, what="floor", param="floors")
    if floors:
        made = insert(OfferAsk).values(
            [{"offer_id": offer.id, "unit": unit, "floor_nano_usd": floor} for unit, floor in floors.items()]
        )
        await session.execute(
            made.on_conflict_do_update(
                index_elements=[OfferAsk.offer_id, OfferAsk.unit],
                set_={"floor_nano_usd": made.excluded.floor_nano_usd},
            )
        )


async def write_windows(session: AsyncSession, offer: Offer, windows: Sequence[Window]) -> None:
    """Replace all windows of the offer; none removes them.

    The caller has locked `offer`. Raises: InvalidRequest for hours that overlap or are none, and for prices that are
    out of range, below the floor or above the cap.
    """
    if len(windows) > WINDOWS_MAX:
        raise InvalidRequest(f"{len(windows)} windows are over the limit of {WINDOWS_MAX}", param="windows")
    for number, window in enumerate(windows):
        _check_window(window, param=f"windows[{number}]")
    await _check_window_prices(session, offer, windows)
    clash = overlap([window.hours for window in windows])
    if clash is not None:
        first, second = clash
        raise InvalidRequest(
            f"{windows[second].hours} overlaps {windows[first].hours}; a moment has one price",
            param=f"windows[{second}]",
        )
    await session.execute(delete(OfferWindow).where(OfferWindow.offer_id == offer.id))
    await _add_windows(session, offer, windows)


async def _add_windows(session: AsyncSession, offer: Offer, windows: Sequence[Window]) -> None:
    rows = [
        OfferWindow(
            id=new_id(),
            offer_id=offer.id,
            days=sorted(window.hours.days),
            starts_minute=window.hours.starts_minute,
            ends_minute=window.hours.ends_minute,
            basis_points=window.basis_points,
        )
        for window in windows
    ]
    session.add_all(rows)
    await session.flush()
    session.add_all(
        OfferWindowAsk(window_id=row.id, unit=unit, price_nano_usd=price)
        for row, window in zip(rows, windows, strict=True)
        for unit, price in window.asks.items()
    )
    await session.flush()


def _check_window(window: Window, *, param: str) -> None:
    """Raises: InvalidRequest."""
    hours, share = window.hours, window.basis_points
    if not hours.days or not hours.days <= set(range(1, 8)):
        raise InvalidRequest(f"{sorted(hours.days)} are no days of a week; use 1 (Monday) to 7", param=param)
    if not (0 <= hours.starts_minute < MINUTES_OF_DAY and 1 <= hours.ends_minute <= MINUTES_OF_DAY):
        raise InvalidRequest(
            f"minutes {hours.starts_minute} to {hours.ends_minute} are outside 0 to {MINUTES_OF_DAY}",
            param=param,
        )
    if hours.starts_minute == hours.ends_minute:
        raise InvalidRequest(
            f"minutes {hours.starts_minute} to {hours.ends_minute} are no time; a whole day is 0 to 1440",
            param=param,
        )
    if (share is None) == (not window.asks):
        raise InvalidRequest(
            "a window has either a share of the base price or asks of its own, not both or neither",
            param=param,
        )
    if share is not None and (type(share) is not int or not 1 <= share <= WINDOW_BASIS_POINTS_MAX):
        raise InvalidRequest(
            f"{share!r} basis points are outside 1 to {WINDOW_BASIS_POINTS_MAX}; 10000 is the base price",
            param=param,
        )


async def _check_window_prices(session: AsyncSession, offer: Offer, windows: Sequence[Window]) -> None:
    """Raises: InvalidRequest."""
    terms, now = await _terms(session, offer), await database_now(session)
    model_id = await _model_of(session, offer)
    book = await load_book(session, fee_basis_points=0)
    cards = card_prices(book, model_id=model_id, revision_id=offer.revision_id, at=now)
    for number, window in enumerate(windows):
        param = f"windows[{number}]"
        for unit, price in window.asks.items():
            check_price(unit, price, param=param)
            floor = terms.floors.get(unit, 0)
            if price < floor:
                raise InvalidRequest(
                    f"the ask of {price} nano-USD for {unit.value} is below the offer's floor of {floor}; "
                    "lower the floor first",
                    param=param,
                )
        prices = asked_in_window(window, {**cards, **terms.asks})
        for unit, price in prices.items():
            check_price(unit, price, param=param)
        await check_caps(session, prices, model_id=model_id, at=now, what="window's ask", param=param)


async def _terms(session: AsyncSession, offer: Offer) -> OfferTerms:
    return (await load_terms(session, [offer.id]))[offer.id]


async def _model_of(session: AsyncSession, offer: Offer) -> UUID:
    model_id = await session.scalar(
        select(ModelRevision.model_id).where(ModelRevision.id == offer.revision_id)
    )
    assert model_id is not None, f"offer {offer.id} of no revision"
    return model_id
