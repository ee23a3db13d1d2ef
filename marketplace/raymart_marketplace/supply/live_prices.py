"""Prices of this process's endpoints at any moment, without asking the database at that moment.

What is scheduled (windows, rate cards, caps, fees with a start or an end) changes the price at its very edge: the book
holds what is to come, and the database's clock is carried on by the machine's monotonic one, which no jump of the wall
clock moves. What is changed while the process runs is seen at the next `load`, which the directory does every two seconds,
and at once in the process that changed it. While the database is away the last book stays, with its edges.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import Prefix, show
from raymart_marketplace.pricing.book import database_now, load_book
from raymart_marketplace.pricing.effective import OfferPrice, OfferTerms, PriceBook, Sold, price_offer

log = structlog.get_logger()


class Priced(Protocol):
    """What a price is made for: an endpoint's facts."""

    @property
    def offer_id(self) -> UUID:
        """Named in the log."""

    @property
    def terms(self) -> OfferTerms:
        """What its provider asks."""

    @property
    def sold(self) -> Sold:
        """What is sold."""


@dataclass(slots=True, eq=False)
class PriceTag:
    """The price of one endpoint, and when it has to be looked at again."""

    price: OfferPrice | None = None
    book: PriceBook | None = None
    """By which book it was made."""
    until: float = -inf
    """By the monotonic clock."""


class LivePrices:
    """The price book in memory and the database's time. Empty before the first `load`; then it prices nothing."""

    def __init__(self, *, fee_basis_points: int) -> None:
        """`fee_basis_points`: the platform's share where no schedule says otherwise."""
        self._fee_basis_points = fee_basis_points
        self._book: PriceBook | None = None
        self._loaded_at = -inf
        self._database_ahead_s = 0.0
        self._unsold: dict[UUID, str] = {}

    @property
    def age_s(self) -> float:
        """Seconds since the last `load`; infinite before the first."""
        return time.monotonic() - self._loaded_at

    @property
    def book(self) -> PriceBook:
        """The book of this moment."""
        assert self._book is not None, "no price without a book"
        return self._book

    def now(self) -> datetime:
        """The moment by the database's clock, late by at most the time that one answer takes."""
        return datetime.fromtimestamp(time.monotonic() + self._database_ahead_s, UTC)

    async def load(self, session: AsyncSession) -> None:
        """Read book and clock. Raises: SQLAlchemyError, OSError."""
        book = await load_book(session, fee_basis_points=self._fee_basis_points)
        now = await database_now(session)
        self._loaded_at = time.monotonic()
        self._database_ahead_s = now.timestamp() - self._loaded_at
        if book != self._book:  # The same book keeps the tags that were made by it.
            self._book = book

    def price(self, tag: PriceTag, priced: Priced) -> OfferPrice:
        """The price of this moment, from `tag` while that holds."""
        if tag.price is not None and tag.book is self._book and time.monotonic() < tag.until:
            return tag.price
        tag.price = price_offer(priced.terms, priced.sold, self.book, self.now())
        tag.book = self._book
        tag.until = tag.price.until.timestamp() - self._database_ahead_s
        self._tell(priced.offer_id, tag.price.reason)
        return tag.price

    def _tell(self, offer_id: UUID, reason: str) -> None:
        """Log once that an offer cannot be sold, and once that it can again."""
        if reason == self._unsold.get(offer_id, ""):
            return
        if reason:
            self._unsold[offer_id] = reason
            log.warning("offer.unsellable", offer_id=show(Prefix.OFFER, offer_id), reason=reason)
        else:
            del self._unsold[offer_id]
            log.info("offer.sellable", offer_id=show(Prefix.OFFER, offer_id))
