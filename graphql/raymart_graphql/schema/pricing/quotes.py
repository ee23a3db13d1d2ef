"""What a request could cost, by the prices of this moment."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_billing.rating import UnitRater, lines_of
from raymart_core.ids import Prefix
from raymart_core.ports import Quantities
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page, global_id, page_of_sequence
from raymart_graphql.scalars import Money
from raymart_graphql.schema.pricing.units import PriceLine
from raymart_marketplace.supply.live import LiveEndpoint

if TYPE_CHECKING:
    from raymart_graphql.schema.supply.types import Provider

LazyProvider = Annotated["Provider", strawberry.lazy("raymart_graphql.schema.supply.types")]
_RATER = UnitRater()


@strawberry.type(description="The most that a request can cost on one endpoint.")
class EndpointQuote:
    """What would be held there before dispatch; the charge is never more."""

    provider_uuid: strawberry.Private[UUID]
    id: strawberry.ID = strawberry.field(description="Id of the endpoint.")
    amount: Money = strawberry.field(description="The most that it can cost.")
    lines: list[PriceLine] = strawberry.field(description="The amount by unit, without what is free.")

    @classmethod
    def of(cls, endpoint: LiveEndpoint, bounds: Quantities) -> "EndpointQuote":
        """The quote of `endpoint` for `bounds`."""
        return cls(
            provider_uuid=endpoint.provider_id,
            id=global_id(Prefix.ENDPOINT, endpoint.id),
            amount=Money.of(_RATER.quote(bounds, endpoint.prices)),
            lines=[PriceLine.of(line) for line in lines_of(bounds, endpoint.prices)],
        )

    @resolved("Who serves it.")
    async def provider(self, info: Info) -> LazyProvider:
        """Its provider."""
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)


@strawberry.type(description="The most that a request can cost.")
class RequestQuote:
    """By the endpoints of this process's directory."""

    model_slug: str = strawberry.field(description="The model that was asked for.")
    bounds: strawberry.Private[Quantities]

    @listed("Endpoints that serve it at this moment, cheapest first; none for a model that nobody serves.")
    async def endpoints(self, info: Info, page: Page) -> Connection[EndpointQuote]:
        """By amount."""
        live = info.context.services.directory.live(self.model_slug)
        viewer = info.context.reading.confinement
        quotes = [EndpointQuote.of(endpoint, self.bounds) for endpoint in live if endpoint.is_seen_by(viewer)]
        return page_of_sequence(quotes, page, name="quotes", key=_by_amount)


def _by_amount(quote: EndpointQuote) -> str:
    """Sorts by the amount, whose digits are padded to one length, then by the endpoint."""
    return f"{quote.amount.amount:020.9f} {quote.id}"
