"""Offers that were found or left out, and where a request would go."""

from dataclasses import dataclass
from uuid import UUID

import strawberry

from raymart_core.errors import DomainError
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import expose
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page, global_id, page_of_sequence
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.catalog.types import LiveEndpoint, ModelRevision
from raymart_graphql.schema.pricing.units import UnitPrice, priced_units
from raymart_graphql.schema.statistics.types import OfSpan, ServiceStatistics, Span
from raymart_graphql.schema.supply.types import Offer, Provider
from raymart_graphql.schema.user_error import UserError
from raymart_marketplace.gateway.route_plan import Trace
from raymart_marketplace.routing import search
from raymart_marketplace.routing.preference import Sort
from raymart_marketplace.routing.route import Needs, Reason, Verdict
from raymart_marketplace.supply import live

expose(
    Reason,
    name="RouteReason",
    description="Why an endpoint or an offer is left out.",
    values={
        "MODEL": "It serves another model.",
        "MODALITY": "Its model makes something else than what is asked for.",
        "REVISION": "It serves another revision than the one asked for, or one that is served only when asked for.",
        "NOT_IN_ONLY": "The only acceptable providers are named, and it is none of them.",
        "IGNORED": "Its provider is ruled out.",
        "NOT_IN_ORDER": "An order of providers is named without it, and fallbacks are forbidden.",
        "PRICE": "It costs more than is accepted.",
        "TRUST": "Its machine is trusted less than is asked for.",
        "DATA_POLICY": "Its provider does not say what is asked of those who see prompts.",
        "CROWDED": "As many requests of one gateway as may be under way at its provider are.",
        "CONTEXT": "Its context cannot hold what is asked for.",
        "QUARANTINED": "It failed a moment ago and is left alone for seconds.",
        "FALLBACK": "Another provider ranks first, and fallbacks are forbidden.",
        "UNSELLABLE": "It has no price at which it may be sold.",
        "OFFLINE": "No ready replica of it is on line.",
        "REGION": "It is not in an acceptable region.",
        "PARAMETERS": "Its revision does not promise what the request requires.",
        "QUANTIZATION": "Its weights are in another number format.",
        "GPU_MODEL": "It has no GPU of that name.",
        "GPU_MEMORY": "None of its GPUs has that much memory.",
    },
)


@strawberry.type(description="A GPU as its machine announced it; not verified.")
class OfferedGpu:
    """Without what would identify the card."""

    model: str = strawberry.field(description="Such as 'NVIDIA H200'.")
    memory_bytes: BigInt = strawberry.field(description="Memory of the card, in bytes.")


@strawberry.type(
    description="An open offer on one machine; without a region where none has announced it yet."
)
class OfferPlace:
    """Public."""

    offer_uuid: strawberry.Private[UUID]
    endpoint_uuid: strawberry.Private[UUID | None]
    provider_uuid: strawberry.Private[UUID]
    revision_uuid: strawberry.Private[UUID]
    endpoint_id: strawberry.ID | None = strawberry.field(
        description="Id of the endpoint; null before a machine has announced it."
    )
    model_slug: str = strawberry.field(description="The model it serves.")
    region: str | None = strawberry.field(
        description="Where it runs; null before a machine has announced it."
    )
    gpus: list[OfferedGpu] = strawberry.field(description="The machine's GPUs; none on a machine without.")
    prices: list[UnitPrice] = strawberry.field(
        description="What it costs at this moment, by unit, without what is free; empty while it cannot be sold."
    )
    live: bool = strawberry.field(description="Whether it can serve at this moment.")
    quarantined: bool = strawberry.field(
        description="Whether recent failures keep it out of routing for now."
    )
    capacity: int = strawberry.field(description="Generations at once; 0 while it is not live.")
    running: int = strawberry.field(description="Generations that run now, as far as this process knows.")

    @classmethod
    def of(cls, place: search.Place) -> "OfferPlace":
        """`place` as the API shows it."""
        return cls(
            offer_uuid=place.offer_id,
            endpoint_uuid=place.endpoint_id,
            provider_uuid=place.provider_id,
            revision_uuid=place.revision_id,
            endpoint_id=None if place.endpoint_id is None else global_id(Prefix.ENDPOINT, place.endpoint_id),
            model_slug=place.model_slug,
            region=place.region,
            gpus=[OfferedGpu(model=gpu.model, memory_bytes=BigInt(gpu.memory_bytes)) for gpu in place.gpus],
            prices=[] if place.unsellable else priced_units(place.prices),
            live=place.live is not None,
            quarantined=place.quarantined,
            capacity=place.capacity,
            running=place.running,
        )

    @resolved("How well it served; null when nothing was tried there in the span.")
    async def statistics(self, info: Info, span: OfSpan = Span.HALF_HOUR) -> ServiceStatistics | None:
        """From recorded attempts."""
        if self.endpoint_uuid is None:
            return None
        return await info.context.loaders.statistics.service.load((self.endpoint_uuid, span))

    @resolved(
        "The share, 0 to 1, of the last 24 hours in which its machine was linked; null before it was looked for."
    )
    async def uptime(self, info: Info) -> float | None:
        """By samples of a minute."""
        if self.endpoint_uuid is None:
            return None
        return await info.context.loaders.statistics.uptime_of_endpoint.load(self.endpoint_uuid)

    @resolved("The offer.")
    async def offer(self, info: Info) -> Offer:
        """What its provider asks."""
        return await info.context.loaders.supply.offer.load_known(self.offer_uuid)

    @resolved("Who offers it.")
    async def provider(self, info: Info) -> Provider:
        """Its provider."""
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)

    @resolved("What is offered.")
    async def revision(self, info: Info) -> ModelRevision:
        """Its revision."""
        return await info.context.loaders.catalog.revision.load_known(self.revision_uuid)


@strawberry.type(description="A place that was left out, and why.")
class OfferRejection:
    """The first condition that it does not meet."""

    place: OfferPlace = strawberry.field(description="What was left out.")
    reason: Reason = strawberry.field(description="Why.")
    detail: str = strawberry.field(description="The same for people: the value and the limit.")

    @classmethod
    def of(cls, place: search.Place, found: Verdict) -> "OfferRejection":
        """`found` as the API shows it."""
        return cls(place=OfferPlace.of(place), reason=found.reason, detail=found.detail)


@strawberry.type(description="What a search of offers found, and what it left out.")
class OfferSearch:
    """Each place that was looked at is in exactly one of the two lists."""

    found: strawberry.Private[search.Found]
    considered: int = strawberry.field(description="How many places were looked at.")

    @classmethod
    def of(cls, found: search.Found) -> "OfferSearch":
        """`found` as the API shows it."""
        return cls(found=found, considered=len(found.matches) + len(found.rejected))

    @listed("What meets every condition, best first; what is live before what is not.")
    async def matches(self, page: Page) -> Connection[OfferPlace]:
        """By rank."""
        return matches_page(self.found, page)

    @listed("What does not, with the first condition that it fails.")
    async def rejected(self, page: Page) -> Connection[OfferRejection]:
        """By id."""
        pairs = page_of_sequence(self.found.rejected, page, name="rejected_offers", key=_by_place)
        return pairs.mapped(lambda pair: OfferRejection.of(*pair))


def matches_page(found: search.Found, page: Page) -> Connection[OfferPlace]:
    """A page of what was found, in its order."""
    ranked = page_of_sequence(list(enumerate(found.matches)), page, name="offers", key=_by_rank)
    return ranked.mapped(lambda pair: OfferPlace.of(pair[1]))


@strawberry.type(description="An endpoint that the request may go to.")
class RouteChoice:
    """In the order in which they would be tried."""

    position: int = strawberry.field(description="0 for the first choice.")
    tried: bool = strawberry.field(
        description="Whether a request would get this far: so many endpoints are tried at most."
    )
    quote: Money = strawberry.field(description="The most that the request can cost there.")
    score: float = strawberry.field(
        description="The strategy's figure for it, of which the lowest is the best. Before it count the customer's order "
        "of providers, a free slot, and a revision that was not superseded."
    )
    endpoint: LiveEndpoint = strawberry.field(description="Where it would go.")


@strawberry.type(description="An endpoint or an offer that the request may not go to, and why.")
class RouteRejection:
    """Live endpoints as routing left them out; the others are unsellable or off line."""

    provider_uuid: strawberry.Private[UUID]
    endpoint_id: strawberry.ID | None = strawberry.field(
        description="Id of the endpoint; null for an offer that no machine has announced."
    )
    live: bool = strawberry.field(description="Whether it can serve other requests at this moment.")
    reason: Reason = strawberry.field(description="Why.")
    detail: str = strawberry.field(description="The same for people: the value and the limit.")

    @resolved("Who offers it.")
    async def provider(self, info: Info) -> Provider:
        """Its provider."""
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What the gateway would do with a request."""

    needs: Needs
    ranked: tuple[tuple[live.LiveEndpoint, Money, float], ...]
    """Best first, each with the most that it can cost and its score."""
    trace: Trace | None
    tried: int
    rejected: tuple[tuple[UUID, RouteRejection], ...]
    hold: Money | None
    refusal: DomainError | None


@strawberry.type(
    description="Where a request would go at this moment, and what the gateway would hold for it."
)
class RouteExplanation:
    """The gateway's own decision; nothing is sent, held or recorded."""

    explained: strawberry.Private[Explained]
    model_slug: str = strawberry.field(description="The model that is asked for.")
    tokens_prompt_max: int = strawberry.field(
        description="The prompt is taken to have so many tokens at most."
    )
    hold: Money | None = strawberry.field(
        description="What would be held until it is billed: the dearest of the endpoints that would be tried; "
        "null when the request would be refused."
    )
    sort: Sort | None = strawberry.field(
        description="The strategy that decided; null when nothing serves the model."
    )
    seed: str | None = strawberry.field(
        description="What chance decided by, 16 hexadecimal digits; sent as `seed`, it decides so again."
    )
    is_last_resort: bool = strawberry.field(
        description="Whether those ranked failed a moment ago: nothing better is left."
    )
    refusal: UserError | None = strawberry.field(
        description="Why the request would be refused; null when it would be served. Balance and budgets are not looked at."
    )

    @classmethod
    def of(cls, explained: Explained) -> "RouteExplanation":
        """`explained` as the API shows it."""
        return cls(
            explained=explained,
            model_slug=explained.needs.model_slug,
            tokens_prompt_max=explained.needs.tokens_prompt_max,
            hold=explained.hold,
            sort=None if explained.trace is None else explained.trace.sort,
            seed=None if explained.trace is None else f"{explained.trace.toss.seed:016x}",
            is_last_resort=explained.trace is not None and explained.trace.is_last_resort,
            refusal=None if explained.refusal is None else UserError.of(explained.refusal),
        )

    @listed("Endpoints that may serve it, best first.")
    async def ranked(self, page: Page) -> Connection[RouteChoice]:
        """By rank."""
        choices = list(enumerate(self.explained.ranked))
        ranked = page_of_sequence(choices, page, name="route", key=_by_rank)
        tried = self.explained.tried
        return ranked.mapped(
            lambda choice: RouteChoice(
                position=choice[0],
                tried=choice[0] < tried,
                quote=choice[1][1],
                score=choice[1][2],
                endpoint=LiveEndpoint.of(choice[1][0]),
            )
        )

    @listed("Endpoints and offers of the model that may not, each with the reason.")
    async def rejected(self, page: Page) -> Connection[RouteRejection]:
        """By id."""
        pairs = page_of_sequence(
            self.explained.rejected, page, name="route_rejected", key=lambda pair: str(pair[0])
        )
        return pairs.mapped(lambda pair: pair[1])


def _by_place(pair: tuple[search.Place, Verdict]) -> str:
    return str(pair[0].id)


def _by_rank(pair: tuple[int, object]) -> str:
    """Digits padded to one length sort as their number."""
    return f"{pair[0]:06d}"
