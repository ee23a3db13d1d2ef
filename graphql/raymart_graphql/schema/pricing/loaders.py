"""Loaders of pricing: what prices follow from, once per operation."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from strawberry.dataloader import DataLoader

from raymart_core.units import Unit
from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.pricing.types import RateCard as ShownRateCard
from raymart_marketplace.pricing.book import database_now, load_book, load_terms
from raymart_marketplace.pricing.effective import OfferTerms, PriceBook
from raymart_marketplace.pricing.models import Price, RateCard, RateCardState

CardAsked = tuple[UUID, UUID, datetime]
"""Model, revision and moment."""


class PricingLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.terms_of_offer: DataLoader[UUID, OfferTerms] = DataLoader(load_fn=self._terms)
        self.prices_of_card: DataLoader[UUID, Mapping[Unit, int]] = DataLoader(load_fn=self._card_prices)
        self.rate_cards_of_model = self._pages(RATE_CARDS, RateCard.model_id)
        self.rate_card_at: DataLoader[CardAsked, ShownRateCard | None] = DataLoader(load_fn=self._cards_at)
        self._books: DataLoader[None, tuple[PriceBook, datetime]] = DataLoader(load_fn=self._load_books)

    async def book(self) -> tuple[PriceBook, datetime]:
        """The price book, and the moment at which it was read. Its fees are not for showing."""
        return await self._books.load(None)

    async def _terms(self, offer_ids: list[UUID]) -> list[OfferTerms]:
        async with self._reading.session() as session:
            found = await load_terms(session, offer_ids)
        return [found[offer_id] for offer_id in offer_ids]

    async def _card_prices(self, card_ids: list[UUID]) -> list[Mapping[Unit, int]]:
        found: dict[UUID, dict[Unit, int]] = defaultdict(dict)
        async with self._reading.session() as session:
            for price in await session.scalars(select(Price).where(Price.rate_card_id.in_(card_ids))):
                found[price.rate_card_id][price.unit] = price.nano_usd
        return [found[card_id] for card_id in card_ids]

    async def _cards_at(self, asked: list[CardAsked]) -> list[ShownRateCard | None]:
        """Of each moment the card that was effective: the revision's own before the model's."""
        models = {model_id for model_id, _, _ in asked}
        statement = select(RateCard).where(
            RateCard.model_id.in_(models), RateCard.state != RateCardState.DRAFT
        )
        async with self._reading.session() as session:
            cards = (await session.scalars(statement.order_by(RateCard.id))).all()
        return [_effective(cards, *each) for each in asked]

    async def _load_books(self, keys: list[None]) -> list[tuple[PriceBook, datetime]]:
        async with self._reading.session() as session:
            book = await load_book(session, fee_basis_points=0)
            now = await database_now(session)
        return [(book, now) for _ in keys]


def _effective(
    cards: Sequence[RateCard], model_id: UUID, revision_id: UUID, at: datetime
) -> ShownRateCard | None:
    effective = [
        card
        for card in cards
        if card.model_id == model_id
        and card.revision_id in (revision_id, None)
        and card.effective_from <= at
        and (card.effective_to is None or at < card.effective_to)
    ]
    # At most one of each scope is effective at a moment.
    effective.sort(key=lambda card: card.revision_id is None)
    return ShownRateCard.of(effective[0]) if effective else None


RATE_CARDS = Listing(
    name="rate_cards",
    entity=RateCard,
    key=RateCard.id,
    show=ShownRateCard.of,
    newest_first=True,
    where=(RateCard.state != RateCardState.DRAFT,),
)
