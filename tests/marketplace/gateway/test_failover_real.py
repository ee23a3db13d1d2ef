"""Broken streams of a real engine: llama.cpp's text is the same wherever the wire to it is cut."""

from collections.abc import AsyncIterator

import pytest
from marketplace.gateway.test_chat_route import events_of

from raymart_core.ports import Prices
from raymart_serve.replica import Replica, ReplicaConfig
from raymart_serve.settings import ReplicaSettings
from support.cut_proxy import CutProxy, cut_proxy
from support.gateway_market import GatewayMarket
from support.scripted_replica import REVISION

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
PRICES = Prices(token_prompt=1, token_completion=1)
GET_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ASKED = {
    "several bytes a character": {"content": "Repeat after me: naïve 你好 😀"},
    "a stop string that is held back": {"content": "What is a payout?", "stop": ["work its", "for the work its machines"]},
    "a tool call": {"content": "What is the weather in Oslo?", "tools": [GET_WEATHER]},
    "sampled with logprobs": {"content": "What is latency?", "logprobs": True},
}  # fmt: skip
CUTS = 6


@pytest.fixture
async def proxy(market: GatewayMarket) -> AsyncIterator[CutProxy]:
    """A market with one engine behind two endpoints; the wire to the first one can be cut."""
    config = ReplicaConfig(
        model=market.slug, revision=REVISION, engine="llama_cpp", source="bundled:demo-llm.gguf", sha256=SHA256,
        context_length=512, slots=2,
    )  # fmt: skip
    replica = Replica(config, ReplicaSettings(agent_file=None), replica_id="test")
    await replica.start()
    await market.books.fund(10_000_000)
    async with cut_proxy(replica.address) as proxy:
        try:
            await market.add_endpoint(proxy, provider="cut", secret=replica.secret, prices=PRICES)
            await market.add_endpoint(replica, provider="whole", secret=replica.secret, prices=PRICES)
            yield proxy
        finally:
            await replica.stop(timeout_s=1)


def said(text: str) -> tuple[str, str, str]:
    """Content, arguments of tool calls, and the reason of the end."""
    content = arguments = finish = ""
    for chunk in events_of(text):
        if isinstance(chunk, dict):
            assert "error" not in chunk, chunk
            [choice] = chunk["choices"]
            content += choice["delta"].get("content") or ""
            for piece in choice["delta"].get("tool_calls") or ():
                arguments += (piece["function"].get("name") or "") + piece["function"]["arguments"]
            finish = choice["finish_reason"] or finish
    return content, arguments, finish


@pytest.mark.parametrize("case", ASKED)
async def test_the_answer_is_the_same_wherever_the_wire_is_cut(
    market: GatewayMarket, proxy: CutProxy, case: str
):
    asked = dict(ASKED[case])
    messages = [{"role": "user", "content": asked.pop("content")}]
    body = {"messages": messages, "stream": True, "max_tokens": 60, "temperature": 0, **asked}
    whole = (await market.chat(**body)).text
    assert said(whole) != ("", "", ""), whole
    # A first look at how long the answer is on the wire; the head is about 100 bytes, the prompt's ids 5 bytes each.
    length = len(said(whole)[0] + said(whole)[1]) * 12
    for number in range(CUTS):
        proxy.cut_after = 260 + number * length // CUTS
        response = await market.chat(**body)
        proxy.cut_after = None
        assert said(response.text) == said(whole), (case, number)
    assert proxy.cuts >= CUTS // 2
    await market.settle()
    tokens = set(await market.books.fetch(
        "select sum(tokens_completion) from usage_record where organization_id = %s"
        " group by coalesce(continues_id, id)", market.books.organization_id,
    ))  # fmt: skip
    assert len(tokens) == 1, "every run is billed the same, however many served it"
