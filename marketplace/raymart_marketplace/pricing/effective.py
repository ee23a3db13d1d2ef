"""The price of an offer at a moment: a pure function of what the provider asks and what the marketplace rules.

Of each unit: the open window's ask, else the base ask, else the rate card's price; at least the provider's floor, at
most the cap. What is rounded is rounded down, in the customer's favour.

When a cap is lowered below an ask, the offer sells at the cap from that moment on: its floor is the least the provider
agreed to. A cap below the floor cannot be met, so the offer is left out of routing until one of the two changes. A
provider who would rather not sell than sell at less sets the floor to the ask.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from raymart_core.money import BASIS_POINTS
from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.pricing.windows import Hours, is_open, next_change

REQUIRED = {
    Modality.CHAT: (Unit.TOKEN_PROMPT, Unit.TOKEN_COMPLETION),
    Modality.IMAGE: (Unit.IMAGE_MEGAPIXEL_STEP,),
    Modality.EMBEDDING: (Unit.TOKEN_PROMPT,),
}
"""What must have a price before a model of this kind is sold; any other unit without one is free."""
HORIZON = timedelta(days=1)
"""A price is looked at again after this long even when no change of it is known."""

ByUnit = Mapping[Unit, int]
"""Nano-USD per unit; a unit that is missing has no price of its own here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """When something is effective: from `starts`, before `ends` (None: until something ends it)."""

    starts: datetime
    ends: datetime | None

    def covers(self, at: datetime) -> bool:
        """Whether it is effective at `at`."""
        return self.starts <= at and (self.ends is None or at < self.ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card(Term):
    """A published rate card."""

    model_id: UUID
    revision_id: UUID | None
    prices: ByUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap(Term):
    """The most that may be asked for `unit`; of every model when `model_id` is None."""

    unit: Unit
    model_id: UUID | None
    max_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee(Term):
    """The platform's share."""

    provider_id: UUID | None
    model_id: UUID | None
    basis_points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """All that the marketplace rules about prices, now and as far as it is scheduled. Immutable."""

    cards: tuple[Card, ...] = ()
    caps: tuple[Cap, ...] = ()
    fees: tuple[Fee, ...] = ()
    fee_basis_points: int
    """Where no schedule says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Other prices in certain hours: a share of the base price, or asks by unit."""

    hours: Hours
    basis_points: int | None = None
    asks: ByUnit = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferTerms:
    """What a provider asks for one offer."""

    asks: ByUnit = field(default_factory=dict)
    floors: ByUnit = field(default_factory=dict)
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """What an offer sells, and who."""

    model_id: UUID
    revision_id: UUID
    provider_id: UUID
    modality: Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferPrice:
    """What an offer costs from a moment on, before `until`."""

    prices: Prices | None
    """None when it cannot be sold; `reason` says why."""
    fee_basis_points: int
    until: datetime
    reason: str = ""


def price_offer(terms: OfferTerms, sold: Sold, book: PriceBook, at: datetime) -> OfferPrice:
    """The offer's price at `at` (aware, by the database's clock), and until when it holds if nobody changes anything."""
    fee = _fee(book.fees, sold, at)
    resolved = _prices(terms, sold, book, at)
    return OfferPrice(
        prices=resolved if isinstance(resolved, Prices) else None,
        fee_basis_points=book.fee_basis_points if fee is None else fee.basis_points,
        until=_until(terms, sold, book, at),
        reason=resolved if isinstance(resolved, str) else "",
    )


def card_prices(book: PriceBook, *, model_id: UUID, revision_id: UUID | None, at: datetime) -> ByUnit:
    """The rate cards' prices at `at`: the revision's own card, unit by unit, over the model's."""
    found: dict[Unit, int] = {}
    for scope in (None, revision_id):
        for card in book.cards:
            if card.model_id == model_id and card.revision_id == scope and card.covers(at):
                found |= card.prices
    return found


def caps_of(book: PriceBook, *, model_id: UUID, at: datetime) -> ByUnit:
    """The most that may be asked for each unit of the model at `at`; units without a cap are missing."""
    lowest: dict[Unit, int] = {}
    for cap in book.caps:
        if cap.model_id in (None, model_id) and cap.covers(at):
            lowest[cap.unit] = min(cap.max_nano_usd, lowest.get(cap.unit, cap.max_nano_usd))
    return lowest


def asked(terms: OfferTerms, cards: ByUnit, at: datetime) -> ByUnit:
    """What is asked for each unit at `at`, before floor and cap."""
    base = {**cards, **terms.asks}
    window = next((window for window in terms.windows if is_open(window.hours, at)), None)
    return base if window is None else asked_in_window(window, base)


def asked_in_window(window: Window, base: ByUnit) -> ByUnit:
    """The window's prices where the base price is `base`."""
    if window.basis_points is None:
        return {**base, **window.asks}
    return {unit: _share_rounded_down(price, window.basis_points) for unit, price in base.items()}


def _prices(terms: OfferTerms, sold: Sold, book: PriceBook, at: datetime) -> Prices | str:
    """The prices, or why there are none."""
    cards = card_prices(book, model_id=sold.model_id, revision_id=sold.revision_id, at=at)
    caps = caps_of(book, model_id=sold.model_id, at=at)
    found: dict[Unit, int] = {}
    for unit, price in asked(terms, cards, at).items():
        floor, cap = terms.floors.get(unit, 0), caps.get(unit)
        if cap is not None and cap < floor:
            return f"its floor for {unit.value} is {floor} nano-USD, above the cap of {cap}"
        found[unit] = max(price, floor) if cap is None else min(max(price, floor), cap)
    missing = [unit.value for unit in REQUIRED[sold.modality] if unit not in found]
    if missing:
        return f"it asks nothing for {' and '.join(missing)}, and no rate card has a price"
    # Without a price of their own cached tokens cost what others do, and never more.
    prompt = found.get(Unit.TOKEN_PROMPT, 0)
    found[Unit.TOKEN_CACHED] = min(found.get(Unit.TOKEN_CACHED, prompt), prompt)
    return Prices(**{unit.name.lower(): price for unit, price in found.items()})


def _share_rounded_down(price: int, basis_points: int) -> int:
    return price * basis_points // BASIS_POINTS


def _fee(fees: Sequence[Fee], sold: Sold, at: datetime) -> Fee | None:
    """The most specific fee: of provider and model, of the provider, of the model, of all."""
    return max(
        (
            fee
            for fee in fees
            if fee.provider_id in (None, sold.provider_id)
            and fee.model_id in (None, sold.model_id)
            and fee.covers(at)
        ),
        key=lambda fee: (fee.provider_id is not None, fee.model_id is not None),
        default=None,
    )


def _until(terms: OfferTerms, sold: Sold, book: PriceBook, at: datetime) -> datetime:
    change = next_change((window.hours for window in terms.windows), at)
    edges = [at + HORIZON] if change is None else [at + HORIZON, change]
    edges += [edge for term in _terms(sold, book) for edge in (term.starts, term.ends) if edge and edge > at]
    return min(edges)


def _terms(sold: Sold, book: PriceBook) -> Iterator[Term]:
    """What may change the offer's price."""
    for card in book.cards:
        if card.model_id == sold.model_id:
            yield card
    for cap in book.caps:
        if cap.model_id in (None, sold.model_id):
            yield cap
    for fee in book.fees:
        if fee.provider_id in (None, sold.provider_id) and fee.model_id in (None, sold.model_id):
            yield fee
