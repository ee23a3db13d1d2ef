"""Loaders of models and revisions, and of what they cost."""

from collections import defaultdict
from collections.abc import Mapping
from typing import cast
from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, any_, bindparam, func, inspect, select
from strawberry.dataloader import DataLoader

from raymart_core.units import Unit
from raymart_graphql.keyset import Listing, rows_of
from raymart_graphql.loading import Known, LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.catalog.types import Model, ModelAlias, ModelRevision
from raymart_graphql.schema.prices import TokenPrices
from raymart_graphql.schema.pricing.loaders import PricingLoaders
from raymart_graphql.schema.supply.types import Offer
from raymart_marketplace.catalog import models as catalog
from raymart_marketplace.catalog import registry_models as registry
from raymart_marketplace.catalog.models import SERVED
from raymart_marketplace.pricing.effective import card_prices
from raymart_marketplace.supply import models as supply
from raymart_marketplace.supply.models import OfferState, ProviderState

SELLS = (
    supply.Offer.state == OfferState.OPEN,
    supply.Provider.state == ProviderState.ACTIVE,
    catalog.ModelRevision.state.in_(SERVED),
)
"""What makes an offer one that requests can use, as the gateway sees it (`supply.endpoints`)."""


MODELS_OF_REVISIONS = (
    select(catalog.ModelRevision.id.label("revision_id"), inspect(catalog.Model).local_table)
    .join(catalog.Model, catalog.Model.id == catalog.ModelRevision.model_id)
    .where(catalog.ModelRevision.id == any_(bindparam("revision_ids", type_=ARRAY(Uuid()))))
)


ALIASES_OF_MODELS = (
    select(inspect(registry.ModelAlias).local_table)
    .where(registry.ModelAlias.model_id == any_(bindparam("model_ids", type_=ARRAY(Uuid()))))
    .order_by(registry.ModelAlias.name, registry.ModelAlias.quantization)
)


class CatalogLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading, pricing: PricingLoaders) -> None:
        super().__init__(reading)
        self._pricing = pricing
        self.model = self._known(catalog.Model, Model.of)
        self.revision = self._known(catalog.ModelRevision, ModelRevision.of)
        self.model_of_revision: Known[Model] = Known(load_fn=self._models_of_revisions)
        self.aliases_of_model: DataLoader[UUID, list[ModelAlias]] = DataLoader(load_fn=self._aliases)
        self.revisions_of_model = self._pages(REVISIONS, catalog.ModelRevision.model_id)
        self.open_offers_of_model = self._pages(
            OPEN_OFFERS, catalog.ModelRevision.model_id, joined=_join_revision
        )
        self.lowest_prices_of_model: DataLoader[UUID, TokenPrices | None] = DataLoader(
            load_fn=self._lowest_prices
        )
        self.lowest_unit_prices_of_model: DataLoader[UUID, Mapping[Unit, int]] = DataLoader(
            load_fn=self._lowest_unit_prices
        )

    async def _models_of_revisions(self, revision_ids: list[UUID]) -> list[Model | None]:
        """One object for all revisions of a model."""
        async with self._reading.session() as session:
            rows = await rows_of(session, MODELS_OF_REVISIONS, {"revision_ids": revision_ids})
        models = {row.id: Model.of(cast("catalog.Model", row)) for row in rows}
        found = {row.revision_id: models[row.id] for row in rows}
        return [found.get(revision_id) for revision_id in revision_ids]

    async def _aliases(self, model_ids: list[UUID]) -> list[list[ModelAlias]]:
        async with self._reading.session() as session:
            rows = await rows_of(session, ALIASES_OF_MODELS, {"model_ids": model_ids})
        found: dict[UUID, list[ModelAlias]] = {model_id: [] for model_id in model_ids}
        for row in rows:
            shown = ModelAlias(name=row.name, quantization=row.quantization, revision_uuid=row.revision_id)
            found[row.model_id].append(shown)
        return [found[model_id] for model_id in model_ids]

    async def _lowest_prices(self, model_ids: list[UUID]) -> list[TokenPrices | None]:
        statement = (
            select(
                catalog.ModelRevision.model_id,
                func.min(supply.Offer.ask_prompt_nano_usd).label("prompt"),
                func.min(supply.Offer.ask_completion_nano_usd).label("completion"),
                func.bool_or(supply.Offer.ask_prompt_nano_usd.is_(None)).label("prompt_by_card"),
                func.bool_or(supply.Offer.ask_completion_nano_usd.is_(None)).label("completion_by_card"),
            )
            .join(supply.Offer, supply.Offer.revision_id == catalog.ModelRevision.id)
            .join(supply.Provider, supply.Provider.id == supply.Offer.provider_id)
            .where(catalog.ModelRevision.model_id.in_(model_ids), *SELLS)
            .group_by(catalog.ModelRevision.model_id)
        )
        async with self._reading.session() as session:
            rows = (await session.execute(statement)).all()
        found = {}
        for row in rows:
            lowest = {Unit.TOKEN_PROMPT: row.prompt, Unit.TOKEN_COMPLETION: row.completion}
            if row.prompt_by_card or row.completion_by_card:
                book, now = await self._pricing.book()
                cards = card_prices(book, model_id=row.model_id, revision_id=None, at=now)
                by_card = {
                    Unit.TOKEN_PROMPT: row.prompt_by_card,
                    Unit.TOKEN_COMPLETION: row.completion_by_card,
                }
                lowest = {
                    unit: _lower(ask, cards.get(unit) if by_card[unit] else None)
                    for unit, ask in lowest.items()
                }
            prompt, completion = lowest.values()
            if prompt is not None and completion is not None:
                found[row.model_id] = TokenPrices.of_nano_usd(prompt=prompt, completion=completion)
        return [found.get(model_id) for model_id in model_ids]

    async def _lowest_unit_prices(self, model_ids: list[UUID]) -> list[Mapping[Unit, int]]:
        """Of each offer what it asks, else the rate card's; one statement for the offers, the terms' own for all asks."""
        statement = (
            select(catalog.ModelRevision.model_id, supply.Offer.revision_id, supply.Offer.id)
            .join(supply.Offer, supply.Offer.revision_id == catalog.ModelRevision.id)
            .join(supply.Provider, supply.Provider.id == supply.Offer.provider_id)
            .where(catalog.ModelRevision.model_id.in_(model_ids), *SELLS)
        )
        async with self._reading.session() as session:
            offers = (await session.execute(statement)).all()
        all_terms = await self._pricing.terms_of_offer.load_many([offer.id for offer in offers])
        book, now = await self._pricing.book()
        lowest: dict[UUID, dict[Unit, int]] = defaultdict(dict)
        for (model_id, revision_id, _), terms in zip(offers, all_terms, strict=True):
            cards = card_prices(book, model_id=model_id, revision_id=revision_id, at=now)
            found = lowest[model_id]
            for unit, price in {**cards, **terms.asks}.items():
                found[unit] = min(price, found.get(unit, price))
        return [lowest[model_id] for model_id in model_ids]


def _lower(ask: int | None, card: int | None) -> int | None:
    """The lower price, of those there are."""
    return min((price for price in (ask, card) if price is not None), default=None)


MODELS = Listing(name="models", entity=catalog.Model, key=catalog.Model.slug, show=Model.of)
REVISIONS = Listing(
    name="revisions",
    entity=catalog.ModelRevision,
    key=catalog.ModelRevision.id,
    show=ModelRevision.of,
    newest_first=True,
    where=(catalog.ModelRevision.state.in_(SERVED),),
)
OPEN_OFFERS = Listing(
    name="open_offers",
    entity=supply.Offer,
    key=supply.Offer.id,
    show=Offer.of,
    where=SELLS,
)


def _join_revision(statement: Select[supply.Offer]) -> Select[supply.Offer]:
    return statement.join(catalog.ModelRevision, catalog.ModelRevision.id == supply.Offer.revision_id).join(
        supply.Provider, supply.Provider.id == supply.Offer.provider_id
    )
