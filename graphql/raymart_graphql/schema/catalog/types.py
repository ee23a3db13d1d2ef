"""Models, their revisions, and what serves them at this moment."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import Modality, RevisionState
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Node, Page, global_id, page_of_sequence
from raymart_graphql.routing_enums import BreakerState, DataPolicy, Trust
from raymart_graphql.schema.prices import TokenPrices
from raymart_graphql.schema.pricing.types import RateCard
from raymart_graphql.schema.pricing.units import UnitPrice, priced_units, unit_prices
from raymart_graphql.schema.statistics.types import OfSpan, ServiceStatistics, Span
from raymart_marketplace.catalog import models
from raymart_marketplace.pricing.effective import card_prices
from raymart_marketplace.supply import live, pace

if TYPE_CHECKING:
    from raymart_graphql.schema.supply.placing import ModelPlacement
    from raymart_graphql.schema.supply.types import Offer, Provider

LazyOffer = Annotated["Offer", strawberry.lazy("raymart_graphql.schema.supply.types")]
LazyModelPlacement = Annotated["ModelPlacement", strawberry.lazy("raymart_graphql.schema.supply.placing")]
LazyProvider = Annotated["Provider", strawberry.lazy("raymart_graphql.schema.supply.types")]


@strawberry.type(description="A model as customers name it.")
class Model(Node):
    """Public."""

    uuid: strawberry.Private[UUID]
    slug: str = strawberry.field(description="The name that requests carry, such as 'raymart/demo-chat'.")
    name: str = strawberry.field(description="Name for people.")
    description: str = strawberry.field(description="What it is.")
    modality: Modality = strawberry.field(description="What it makes.")
    licence: str = strawberry.field(description="Licence of the weights.")

    @classmethod
    def of(cls, row: models.Model) -> "Model":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.MODEL, row.id),
            uuid=row.id,
            slug=row.slug,
            name=row.name,
            description=row.description,
            modality=row.modality,
            licence=row.licence,
        )

    @listed("Its revisions that can be served, newest first.")
    async def revisions(self, info: Info, page: Page) -> "Connection[ModelRevision]":
        """Published and deprecated revisions by id."""
        return await info.context.loaders.catalog.revisions_of_model.load((self.uuid, page))

    @resolved("Names that move between its revisions, such as 'latest' and 'stable', by name.")
    async def aliases(self, info: Info) -> "list[ModelAlias]":
        """One of a name for each number format."""
        return await info.context.loaders.catalog.aliases_of_model.load(self.uuid)

    @resolved("Whether it is placed, and if not, why; null before the planner has seen it.")
    async def placement(self, info: Info) -> LazyModelPlacement | None:
        """As of the planner's last pass."""
        return await info.context.loaders.supply.standing_of_model.load(self.uuid)

    @listed("Open offers of any of its revisions, oldest first.")
    async def offers(self, info: Info, page: Page) -> Connection[LazyOffer]:
        """Open offers by id."""
        return await info.context.loaders.catalog.open_offers_of_model.load((self.uuid, page))

    @resolved(
        "The lowest base price of each kind of token over its open offers; null without an offer that has one."
    )
    async def lowest_prices(self, info: Info) -> TokenPrices | None:
        """Least asks, each kind by itself."""
        return await info.context.loaders.catalog.lowest_prices_of_model.load(self.uuid)

    @resolved(
        "The lowest base price of each unit over its open offers, such as an image model's megapixel-steps."
    )
    async def lowest_unit_prices(self, info: Info) -> list[UnitPrice]:
        """Least asks, each unit by itself; without what no offer has a price of."""
        return unit_prices(await info.context.loaders.catalog.lowest_unit_prices_of_model.load(self.uuid))

    @listed("Every rate card of it or of one of its revisions, newest first.")
    async def rate_cards(self, info: Info, page: Page) -> Connection[RateCard]:
        """By id."""
        return await info.context.loaders.pricing.rate_cards_of_model.load((self.uuid, page))

    @resolved("What its rate card says at this moment; empty without one. Providers may ask other prices.")
    async def current_prices(self, info: Info) -> list[UnitPrice]:
        """By unit."""
        book, now = await info.context.loaders.pricing.book()
        return unit_prices(card_prices(book, model_id=self.uuid, revision_id=None, at=now))

    @resolved("How well it was served, by all endpoints together; null when nothing was tried in the span.")
    async def statistics(self, info: Info, span: OfSpan = Span.HALF_HOUR) -> ServiceStatistics | None:
        """From recorded attempts."""
        return await info.context.loaders.statistics.service.load((self.uuid, span))

    @listed("Endpoints that serve it at this moment.")
    async def live_endpoints(self, info: Info, page: Page) -> "Connection[LiveEndpoint]":
        """From the directory in memory, by id."""
        return live_endpoint_page(info.context.services.directory.live(self.slug), page)


@strawberry.type(description="One set of weights with one engine, named by the digest of its manifest.")
class ModelRevision(Node):
    """Public once it is published."""

    uuid: strawberry.Private[UUID]
    model_uuid: strawberry.Private[UUID]
    digest: str = strawberry.field(description="'sha256:<hex>' of the canonical manifest.")
    engine: str = strawberry.field(description="Engine that serves it, such as 'llama_cpp'.")
    quantization: str = strawberry.field(description="Number format of the weights.")
    context_length: int = strawberry.field(description="Tokens of prompt and completion together.")
    capabilities: list[str] = strawberry.field(description="What requests may ask for beside plain text.")
    state: RevisionState = strawberry.field(description="Where it stands.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def of(cls, row: models.ModelRevision) -> "ModelRevision":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.REVISION, row.id),
            uuid=row.id,
            model_uuid=row.model_id,
            digest=row.digest,
            engine=row.engine,
            quantization=row.quantization,
            context_length=row.context_length,
            capabilities=row.capabilities,
            state=row.state,
            created_at=row.created_at,
        )

    @resolved("The model it is a revision of.")
    async def model(self, info: Info) -> Model:
        """Its model."""
        return await info.context.loaders.catalog.model.load_known(self.model_uuid)


@strawberry.type(
    description="A name that moves between the revisions of a model, one for each number format."
)
class ModelAlias:
    """Requests name a revision by it: 'owner/name@stable'."""

    name: str = strawberry.field(description="Such as 'latest' or 'stable'.")
    quantization: str = strawberry.field(description="Number format of the revision that it names.")
    revision_uuid: strawberry.Private[UUID]

    @resolved("The revision that it names.")
    async def revision(self, info: Info) -> ModelRevision:
        """Its revision."""
        return await info.context.loaders.catalog.revision.load_known(self.revision_uuid)


@strawberry.type(
    description="A figure by percentile, within 10 %: of 100 answers so many were as good or better."
)
class Percentiles:
    """Of the last minutes: an observation counts half as much after 104 seconds."""

    p50: float = strawberry.field(description="Of 50 in 100.")
    p75: float = strawberry.field(description="Of 75 in 100.")
    p90: float = strawberry.field(description="Of 90 in 100.")
    p99: float = strawberry.field(description="Of 99 in 100.")

    @classmethod
    def of(cls, found: pace.Percentiles | None) -> "Percentiles | None":
        """`found` as the API shows it."""
        return (
            None if found is None else cls(**{name: round(each, 3) for name, each in found._asdict().items()})
        )


@strawberry.type(
    description="Live figures of an endpoint: means in which an observation counts half as much after a minute. "
    "Routing decides by them. An endpoint of which little has been seen is taken to be like the others of its model."
)
class LiveFigures:
    """Of this process alone; `statistics` are of all, from what was recorded."""

    first_token_ms: float | None = strawberry.field(
        description="Milliseconds from the sending of a request to its first token; null when nothing is known."
    )
    inter_token_ms: float | None = strawberry.field(
        description="Milliseconds from a token to the next; null when nothing is known."
    )
    tokens_per_second: float | None = strawberry.field(
        description="Tokens of an answer by its whole duration; null when nothing is known."
    )
    first_token_ms_percentiles: Percentiles | None = strawberry.field(
        description="`firstTokenMs` by percentile; null when nothing is known."
    )
    tokens_per_second_percentiles: Percentiles | None = strawberry.field(
        description="`tokensPerSecond` by percentile; null when nothing is known."
    )
    error_rate: float = strawberry.field(
        description="The share, 0 to 1, of what it was asked that failed by its fault."
    )
    observations: float = strawberry.field(
        description="How many fresh observations of its own the figures are worth."
    )

    @classmethod
    def of(cls, endpoint: live.LiveEndpoint) -> "LiveFigures":
        """`endpoint`'s as the API shows them."""
        return cls(
            first_token_ms=_rounded(endpoint.first_token_ms),
            inter_token_ms=_rounded(endpoint.inter_token_ms),
            tokens_per_second=_rounded(endpoint.tokens_per_s),
            first_token_ms_percentiles=Percentiles.of(endpoint.pace.first_token_ms),
            tokens_per_second_percentiles=Percentiles.of(endpoint.pace.tokens_per_s),
            error_rate=round(endpoint.error_rate, 4),
            observations=round(endpoint.observations, 2),
        )


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)


@strawberry.type(description="Something that serves a model at this moment.")
class LiveEndpoint:
    """A snapshot from this process's directory."""

    id: strawberry.ID = strawberry.field(description="Id of the endpoint.")
    uuid: strawberry.Private[UUID]
    provider_uuid: strawberry.Private[UUID]
    revision_uuid: strawberry.Private[UUID]
    model_slug: str = strawberry.field(description="The model it serves.")
    region: str = strawberry.field(description="Where it runs.")
    prices: TokenPrices = strawberry.field(description="What tokens cost there at this moment.")
    unit_prices: list[UnitPrice] = strawberry.field(
        description="What it costs at this moment, by unit, without what is free."
    )
    capacity: int = strawberry.field(description="Generations at once, over all its replicas.")
    running: int = strawberry.field(description="Generations that run now, as far as this process knows.")
    quarantined: bool = strawberry.field(
        description="Whether recent failures keep it out of routing for now."
    )
    breaker: BreakerState = strawberry.field(description="Whether requests go to it.")
    trust: Trust = strawberry.field(description="How far its machine is trusted.")
    data_policy: DataPolicy = strawberry.field(
        description="What its provider says that becomes of prompts and answers."
    )
    figures: LiveFigures = strawberry.field(
        description="How it does at this moment, as far as this process has seen."
    )

    @classmethod
    def of(cls, endpoint: live.LiveEndpoint) -> "LiveEndpoint":
        """`endpoint` as the API shows it."""
        return cls(
            id=global_id(Prefix.ENDPOINT, endpoint.id),
            uuid=endpoint.id,
            provider_uuid=endpoint.provider_id,
            revision_uuid=endpoint.revision_id,
            model_slug=endpoint.model_slug,
            region=endpoint.region,
            prices=TokenPrices.of(endpoint.prices),
            unit_prices=priced_units(endpoint.prices),
            capacity=endpoint.capacity,
            running=endpoint.running,
            quarantined=endpoint.quarantined,
            breaker=endpoint.breaker,
            trust=endpoint.trust,
            data_policy=endpoint.data_policy,
            figures=LiveFigures.of(endpoint),
        )

    @resolved("How well it served; null when nothing was tried in the span.")
    async def statistics(self, info: Info, span: OfSpan = Span.HALF_HOUR) -> ServiceStatistics | None:
        """From recorded attempts."""
        return await info.context.loaders.statistics.service.load((self.uuid, span))

    @resolved(
        "The share, 0 to 1, of the last 24 hours in which its machine was linked; null before it was looked for."
    )
    async def uptime(self, info: Info) -> float | None:
        """By samples of a minute."""
        return await info.context.loaders.statistics.uptime_of_endpoint.load(self.uuid)

    @resolved("Who serves it.")
    async def provider(self, info: Info) -> LazyProvider:
        """Its provider."""
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)

    @resolved("The revision it serves.")
    async def revision(self, info: Info) -> ModelRevision:
        """Its revision."""
        return await info.context.loaders.catalog.revision.load_known(self.revision_uuid)


def live_endpoint_page(endpoints: Sequence[live.LiveEndpoint], page: Page) -> Connection[LiveEndpoint]:
    """A page of live endpoints by id."""
    return page_of_sequence(
        [LiveEndpoint.of(endpoint) for endpoint in endpoints],
        page,
        name="live_endpoints",
        key=lambda item: str(item.id),
    )
