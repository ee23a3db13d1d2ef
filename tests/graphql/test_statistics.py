"""Figures of endpoints and models from recorded attempts, and uptimes of machines."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select, update

from raymart_billing import statistics
from raymart_billing.statistics import Span
from raymart_core.ids import Prefix, new_id, show
from raymart_core.units import Fault
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.metering.models import Attempt, AttemptOutcome
from raymart_marketplace.supply.models import Endpoint, Node
from support.api_server import Api, Seller
from support.statements import statements_of

FIGURES = """fragment f on ServiceStatistics {
  attempts delivered successRate tokensDelivered
  firstTokenMsP50 firstTokenMsP95 tokensPerSecondP50 tokensPerSecondP95 computedAt
}"""
STATISTICS = (
    """
query ($slug: String!) {
  model(slug: $slug) {
    statistics { ...f } day: statistics(span: DAY) { ...f }
    liveEndpoints { nodes { uptime statistics { ...f } } }
  }
  offers(filter: {model: $slug}) { nodes { uptime statistics { ...f } } }
}
"""
    + FIGURES
)


async def tried(api: Api, seller: Seller) -> None:
    """A hundred attempts: first tokens after 10 to 1,000 ms, at 50 tokens a second; ten fail at the provider."""
    async with session_scope(api.services.sessions) as session:
        endpoint_id = await session.scalar(select(Endpoint.id).where(Endpoint.node_id == seller.node_id))
        assert endpoint_id is not None
        for number in range(1, 101):
            fails = number % 10 == 0
            session.add(
                Attempt(
                    request_id=new_id(),
                    position=0,
                    endpoint_id=endpoint_id,
                    provider_id=seller.provider_id,
                    node_id=seller.node_id,
                    outcome=AttemptOutcome.FAILED if fails else AttemptOutcome.DELIVERED,
                    fault=Fault.PROVIDER if fails else Fault.NONE,
                    reason="",
                    tokens_delivered=0 if fails else 101,
                    first_token_ms=None if fails else number * 10,
                    duration_ms=number * 10 + 2_000,
                )
            )


async def refresh(api: Api) -> None:
    async with session_scope(api.services.sessions) as session:
        await statistics.make_slots(session)
        await statistics.make_hours(session)
    for span in Span:
        async with session_scope(api.services.sessions) as session:
            await statistics.make_figures(session, span)


@pytest.mark.usefixtures("replica")
class TestFigures:
    async def test_endpoint_and_model_show_what_was_recorded(self, api: Api, seller: Seller) -> None:
        before = (await api(STATISTICS, slug=seller.model_slug)).data["model"]
        assert before["statistics"] is before["liveEndpoints"]["nodes"][0]["statistics"] is None
        await tried(api, seller)
        shown = []
        for _ in range(2):  # A second run changes nothing.
            await refresh(api)
            data = (await api(STATISTICS, slug=seller.model_slug)).data
            model, [place] = data["model"], data["offers"]["nodes"]
            [endpoint] = model["liveEndpoints"]["nodes"]
            shown += [model["statistics"], model["day"], endpoint["statistics"], place["statistics"]]
        for found in shown:
            found.pop("computedAt")
            assert found == shown[0]
        found = shown[0]
        assert (found["attempts"], found["delivered"], found["tokensDelivered"]) == ("100", "90", "9090")
        assert Decimal(str(found["successRate"])) == Decimal("0.9")
        # Of the 90 that delivered: the 45th and 86th by time; every one at 100 tokens in 2 s after the first.
        for value, true in (
            (found["firstTokenMsP50"], 490),
            (found["firstTokenMsP95"], 950),
            (found["tokensPerSecondP50"], 50),
            (found["tokensPerSecondP95"], 50),
        ):
            assert true / 1.1 <= value <= true * 1.1, found

    async def test_what_is_no_longer_in_the_span_is_shown_no_more(self, api: Api, seller: Seller) -> None:
        await tried(api, seller)
        await refresh(api)
        async with session_scope(api.services.sessions) as session:
            slots = statistics.AttemptSlot
            await session.execute(update(slots).values(starts_at=slots.starts_at - timedelta(hours=2)))
            await statistics.make_figures(session, Span.HALF_HOUR)
        model = (await api(STATISTICS, slug=seller.model_slug)).data["model"]
        assert model["statistics"] is None
        assert model["day"]["attempts"] == "100"


class TestStatements:
    async def test_they_do_not_grow_with_the_models(self, api: Api, seller: Seller) -> None:
        query = "query ($slug: String!, $first: Int!) { models(first: $first) { nodes { statistics { attempts } } } model(slug: $slug) { name } }"
        person: Any = seller.tenant.owner
        await api.seller()
        one = await statements_of(api, query, person, slug=seller.model_slug, first=1)
        assert await statements_of(api, query, person, slug=seller.model_slug, first=50) == one


class TestUptime:
    @pytest.mark.usefixtures("replica")
    async def test_it_is_the_share_of_samples_in_which_the_machine_was_linked(
        self, api: Api, seller: Seller
    ) -> None:
        query = "query ($id: ID!) { node(id: $id) { ... on ProviderNode { uptime liveEndpoints { nodes { uptime } } } } }"

        async def uptime() -> list[float | None]:
            data = (await api(query, seller.tenant.owner, id=show(Prefix.NODE, seller.node_id))).data["node"]
            return [data["uptime"], *(node["uptime"] for node in data["liveEndpoints"]["nodes"])]

        assert await uptime() == [None, None]
        for ago, share in ((0, 1.0), (3_600, 0.5)):
            async with session_scope(api.services.sessions) as session:
                seen = func.clock_timestamp() - timedelta(seconds=ago)
                await session.execute(update(Node).where(Node.id == seller.node_id).values(last_seen_at=seen))
                await statistics.sample_nodes(session)
            assert await uptime() == [share, share]
