"""Offers by what is looked for, and the way of a request: for everybody, as the catalog is."""

import contextlib
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import strawberry
from msgspec import structs

from raymart_core.errors import DomainError, ModelNotFound
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page, global_id
from raymart_graphql.scalars import Money
from raymart_graphql.schema.routing.inputs import ExplainRouteInput, OfferFilter
from raymart_graphql.schema.routing.types import (
    Explained,
    OfferPlace,
    OfferSearch,
    RouteExplanation,
    RouteRejection,
    matches_page,
)
from raymart_marketplace.db.tenancy import Confinement
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.route_plan import NOWHERE, RoutePlan, RouteReport
from raymart_marketplace.routing import search
from raymart_marketplace.routing.preference import Sort
from raymart_marketplace.routing.ranking import Routing
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.supply.places import load_places

Filter = Annotated[
    OfferFilter | None,
    strawberry.argument(name="filter", description="What an offer must be; without it, any."),
]
By = Annotated[Sort, strawberry.argument(description="What comes first, as in a request's `provider.sort`.")]


@strawberry.type
class RoutingQuery:
    """Root fields of the domain."""

    @listed("Open offers that meet every condition, best first, each on the machine that would serve it.")
    async def offers(
        self,
        info: Info,
        page: Page,
        filter_: Filter = None,
        sort: By = Sort.PRICE,
    ) -> Connection[OfferPlace]:
        """By rank."""
        return matches_page(await _search(info.context, filter_, sort), page)

    @resolved("The same with what was left out, and why.")
    async def offer_search(
        self,
        info: Info,
        filter_: Filter = None,
        sort: By = Sort.PRICE,
    ) -> OfferSearch:
        """Matches and rejections."""
        return OfferSearch.of(await _search(info.context, filter_, sort))

    @resolved(
        "Where such a request would go at this moment, why not elsewhere, and what would be held for it."
    )
    async def explain_route(
        self,
        info: Info,
        input_: Annotated[
            ExplainRouteInput, strawberry.argument(name="input", description="What is asked for.")
        ],
    ) -> RouteExplanation:
        """The gateway's decision, by the gateway's own function."""
        needs = input_.needs()
        inference = info.context.services.inference
        report = await _reported(inference, input_, needs, info.context.reading.confinement)
        plan, routing = report.plan, report.routing
        hold = Money.of(inference.quote(plan.tried, needs)) if plan.tried else None
        return RouteExplanation.of(
            Explained(
                needs=needs,
                ranked=tuple(
                    (endpoint, Money.of(inference.quote([endpoint], needs)), score)
                    for endpoint, score in zip(routing.ranked, routing.scores, strict=True)
                ),
                trace=plan.trace,
                tried=len(plan.tried),
                rejected=(*_left_out(routing), *await _absent(info.context, routing, needs)),
                hold=hold,
                refusal=plan.refusal,
            )
        )


async def _reported(
    inference: Inference, asked: ExplainRouteInput, needs: Needs, viewer: Confinement | None
) -> RouteReport:
    """The gateway's decision for the viewer, a refusal of any kind included."""
    preference, seed = asked.preference(), asked.chance()
    try:
        for organization_id in viewer.organizations if viewer is not None else ():
            # A private model is there for some organizations only; the viewer may be of several.
            with contextlib.suppress(ModelNotFound):
                theirs = structs.replace(needs, organization_id=organization_id)
                return await inference.planner.explain(preference, theirs, seed=seed)
        return await inference.planner.explain(preference, needs, seed=seed)
    except DomainError as error:  # There is no such model, or the catalog is away.
        return RouteReport(plan=RoutePlan(tried=(), refusal=error), routing=NOWHERE)


async def _search(operation: Operation, given: OfferFilter | None, sort: Sort) -> search.Found:
    wish = (given or OfferFilter()).wish(sort)
    # Of other models there is nothing to say but their name.
    return search.search(await _places(operation, wish.model_slug), wish)


async def _places(operation: Operation, model_slug: str | None) -> Sequence[search.Place]:
    book, now = await operation.loaders.pricing.book()
    directory = operation.services.directory
    live = directory.all_live() if model_slug is None else directory.live(model_slug)
    # Which hardware serves an offer is public; the machines' rows, from which that is read, are their provider's alone.
    async with operation.reading.trusted_session() as session:
        return await load_places(
            session, live, book, now, model_slug=model_slug, viewer=operation.reading.confinement
        )


def _left_out(routing: Routing) -> list[tuple[UUID, RouteRejection]]:
    """Live endpoints, as routing left them out."""
    return [
        (
            rejection.endpoint.id,
            RouteRejection(
                provider_uuid=rejection.endpoint.provider_id,
                endpoint_id=global_id(Prefix.ENDPOINT, rejection.endpoint.id),
                live=True,
                reason=rejection.reason,
                detail=rejection.detail,
            ),
        )
        for rejection in routing.rejected
    ]


async def _absent(operation: Operation, routing: Routing, needs: Needs) -> list[tuple[UUID, RouteRejection]]:
    """Open offers that routing does not even see."""
    seen = {endpoint.id for endpoint in routing.ranked}
    seen |= {rejection.endpoint.id for rejection in routing.rejected}
    found = []
    for place in await _places(operation, needs.model_slug):
        if place.id in seen:
            continue
        reason, detail = search.absence(place)
        rejection = RouteRejection(
            provider_uuid=place.provider_id,
            endpoint_id=None if place.endpoint_id is None else global_id(Prefix.ENDPOINT, place.endpoint_id),
            live=False,
            reason=reason,
            detail=detail,
        )
        found.append((place.id, rejection))
    return found
