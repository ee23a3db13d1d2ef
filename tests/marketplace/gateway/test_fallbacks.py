"""Other models are tried only when asked for, in order, and never for what is wrong with the request itself."""

import pytest

from raymart_core.units import Fault
from support.gateway_market import GatewayMarket, gateway_market


async def die(exchange):
    exchange.cut()


@pytest.fixture
async def other(sessions, pool):
    """A second model that exists; nobody serves it unless a test says so."""
    async with gateway_market(sessions, pool) as other:
        yield other


async def lend(market: GatewayMarket, other: GatewayMarket) -> None:
    """Let `market` serve the other's model."""
    await market.add_endpoint(provider="lender", model_slug=other.slug)


class TestFallback:
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    async def test_a_model_that_nobody_serves_gives_way_to_the_next(self, market, other, stream):
        await market.books.fund(1_000_000)
        await lend(market, other)
        response = await market.chat(models=[other.slug], stream=stream)
        assert response.status_code == 200, response.text
        assert response.headers["x-raymart-model"] == other.slug
        assert other.slug in response.text
        await market.settle()
        first, served = await market.requests()
        assert (first[1], first[3]) == ("failed", "no_endpoint")
        assert served[1] == "completed"
        assert response.headers["x-request-id"] == f"req_{served[0].hex}"
        assert len(await market.usage()) == 1

    async def test_a_model_whose_providers_fail_gives_way_and_costs_nothing(self, market, other):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = die
        await lend(market, other)
        response = await market.chat(models=[other.slug])
        assert response.json()["model"] == other.slug
        await market.settle()
        assert len(await market.usage()) == 1

    async def test_without_being_asked_for_there_is_none(self, market, other):
        await market.books.fund(1_000_000)
        await lend(market, other)
        assert (await market.chat()).status_code == 503

    async def test_a_model_that_is_served_serves(self, market, other):
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        await lend(market, other)
        assert (await market.chat(models=[other.slug])).json()["model"] == market.slug

    async def test_a_request_that_is_wrong_is_wrong_for_every_model(self, market, other):
        await market.books.fund(1_000_000)

        async def refuse(exchange):
            exchange.refuse(400, "too odd", Fault.CUSTOMER, "messages")

        (await market.add_endpoint()).script = refuse
        await lend(market, other)
        response = await market.chat(models=[other.slug])
        assert response.status_code == 400
        assert len(market.replicas[1].exchanges) == 0

    async def test_a_model_that_does_not_exist_is_no_reason_for_another(self, market, other):
        await market.books.fund(1_000_000)
        await lend(market, other)
        response = await market.chat(model="no/such", models=[other.slug])
        assert response.status_code == 404

    async def test_an_empty_balance_is_no_reason_for_another(self, market, other):
        await market.add_endpoint()
        await lend(market, other)
        assert (await market.chat(models=[other.slug])).status_code == 402
        assert len(market.replicas[1].exchanges) == 0

    async def test_when_none_answers_all_reasons_are_told(self, market, other):
        await market.books.fund(1_000_000)
        (await market.add_endpoint()).script = die
        response = await market.chat(models=[other.slug])
        assert response.status_code == 502
        message = response.json()["error"]["message"]
        assert market.slug in message
        assert other.slug in message
        await market.wait_for_no_hold()

    async def test_a_stream_that_has_begun_stays_with_its_model(self, market, other):
        await market.books.fund(1_000_000)

        async def break_off(exchange):
            exchange.prompt()
            exchange.step()
            exchange.cut()

        (await market.add_endpoint()).script = break_off
        await lend(market, other)
        response = await market.chat(models=[other.slug], stream=True)
        assert '"finish_reason":"error"' in response.text
        assert len(market.replicas[1].exchanges) == 0
