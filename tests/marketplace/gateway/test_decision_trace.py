"""Who asks is told how the answer was routed: who could have served, who not and why, and what was tried."""

import json

import pytest

from raymart_core.ports import Prices
from raymart_core.units import Fault


def last_with_routing(text: str) -> dict:
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    (found,) = [event for event in map(json.loads, events[:-1]) if "routing" in event]
    return found


async def busy(exchange):
    exchange.refuse(503, "busy", Fault.PROVIDER)


@pytest.fixture
async def three(market):
    """The cheapest is busy, the next serves, one is ruled out."""
    await market.books.fund(1_000_000)
    (
        await market.add_endpoint(provider="north", prices=Prices(token_prompt=1, token_completion=1))
    ).script = busy
    await market.add_endpoint(provider="south")
    await market.add_endpoint(provider="east")
    return market


def check(routing: dict) -> None:
    assert routing["strategy"] == "price"
    assert len(routing["seed"]) == 16
    assert routing["considered"] == 3
    assert [(each["provider"], each["chosen"]) for each in routing["candidates"]] == [
        ("north", True),
        ("south", True),
    ]
    assert [(each["provider"], each["reason"]) for each in routing["ruled_out"]] == [("east", "ignored")]
    assert routing["ruled_out"][0]["detail"] == "is in provider.ignore"
    attempts = [(each["provider"], each["outcome"], each["fault"]) for each in routing["attempts"]]
    assert attempts == [("north", "failed", "provider"), ("south", "delivered", "none")]


class TestTrace:
    async def test_a_whole_answer_carries_it(self, three):
        body = (await three.chat(provider={"ignore": ["east"], "trace": True})).json()
        check(body["routing"])
        assert body["choices"][0]["finish_reason"] == "length"

    async def test_a_stream_carries_it_before_its_end(self, three):
        text = (await three.chat(provider={"ignore": ["east"], "trace": True}, stream=True)).text
        event = last_with_routing(text)
        check(event["routing"])
        assert event["choices"] == []

    async def test_a_header_asks_for_it_too(self, three):
        body = three.body(provider={"ignore": ["east"]})
        response = await three.client.post(
            "/v1/chat/completions", json=body, headers={"x-raymart-trace": "true"}
        )
        check(response.json()["routing"])

    @pytest.mark.parametrize("path", ["/v1/completions", "/completion"])
    async def test_prompts_have_it_as_well(self, three, path):
        body = {"model": three.slug, "prompt": "x", "provider": {"ignore": ["east"], "trace": True}}
        check((await three.client.post(path, json=body)).json()["routing"])

    async def test_of_several_choices_the_first_ones_is_told(self, three):
        three.replicas[0].script = three.replicas[1].script
        body = (await three.chat(n=2, provider={"trace": True})).json()
        assert len(body["routing"]["attempts"]) == 1
        text = (await three.chat(n=2, provider={"trace": True}, stream=True)).text
        assert last_with_routing(text)["routing"]["considered"] == 3

    async def test_nobody_is_told_who_did_not_ask(self, three):
        assert "routing" not in (await three.chat()).json()
        assert '"routing"' not in (await three.chat(stream=True)).text
