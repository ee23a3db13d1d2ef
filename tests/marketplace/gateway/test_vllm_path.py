"""The whole path with vLLM at its end: a customer's HTTP request, the gateway, the meter, a replica process on vLLM.

Run by `make test-vllm`; the replica runs in `.venv-vllm`, the gateway here.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raymart_marketplace.gateway.http_client import DirectUpstream
from support.gateway_market import GatewayMarket
from support.scripted_replica import REVISION

VLLM_PYTHON = Path(__file__).parents[3] / ".venv-vllm" / "bin" / "python"
DEMO_LLM = "d050e91e9f7ddcf9d5f1cad2532aa506c4b634743ace78b36c4350477161807b"
START_TIMEOUT_S = 240
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": CITY}}
    for name, about in (("get_weather", "the weather in a city"), ("get_time", "the time in a city"))
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(START_TIMEOUT_S + 120),
    pytest.mark.skipif(not VLLM_PYTHON.exists(), reason="make test-vllm builds .venv-vllm"),
]


@pytest.fixture
async def vllm(market: GatewayMarket) -> AsyncIterator[GatewayMarket]:
    """A market whose one endpoint is a replica process on vLLM."""
    process = await asyncio.create_subprocess_exec(
        *(
            str(VLLM_PYTHON),
            "-m",
            "raymart_serve.replica",
            "--engine",
            "vllm",
            "--source",
            "bundled:demo-llm",
        ),
        *("--sha256", DEMO_LLM, "--revision", REVISION, "--model", "raymart/demo-chat", "--slots", "4"),
        *("--parameter", "tool_parser=hermes"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            ready = json.loads(await process.stdout.readline())
        await market.books.fund(1_000_000)
        await market.add_endpoint()
        (endpoint,) = market.directory.endpoints.values()
        upstream = DirectUpstream(ready["address"], ready["secret"])
        market.stack.callback(upstream.close)
        market.directory.add(endpoint, upstream)
        yield market
    finally:
        process.terminate()
        await process.wait()


async def test_a_customer_is_served_by_vllm_and_billed_for_every_token(vllm: GatewayMarket):
    """One test: the engine takes half a minute to start."""
    greedy = {"temperature": 0, "max_tokens": 60}

    plain = (
        await vllm.chat(messages=[{"role": "user", "content": "What is the capital of Norway?"}], **greedy)
    ).json()
    assert plain["choices"][0]["message"]["content"] == "The capital of Norway is Oslo."
    assert plain["choices"][0]["finish_reason"] == "stop"

    weather = [{"role": "user", "content": "What is the weather in Oslo?"}]
    called = (await vllm.chat(messages=weather, tools=TOOLS, **greedy)).json()
    (choice,) = called["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}

    named = {"type": "function", "function": {"name": "get_time"}}
    streamed = await vllm.chat(messages=weather, tools=TOOLS, tool_choice=named, stream=True, **greedy)
    chunks = [json.loads(line[6:]) for line in streamed.text.split("\n\n") if line.startswith("data: {")]
    pieces = [piece for chunk in chunks for piece in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert pieces[0]["function"]["name"] == "get_time"
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {"city": "Oslo"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"

    told = [*weather, choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]
    answered = await vllm.chat(messages=told, tools=TOOLS, **greedy)
    assert answered.status_code == 200

    person = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    schema = {
        "name": "person",
        "schema": {**person, "required": ["name", "age"], "additionalProperties": False},
    }
    asked = [{"role": "user", "content": "Return JSON with name and age for Ada, 36."}]
    form = {"type": "json_schema", "json_schema": schema}
    held = (await vllm.chat(messages=asked, response_format=form, **greedy)).json()
    assert json.loads(held["choices"][0]["message"]["content"]) == {"name": "Ada", "age": 36}

    bad = {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "integer", "multipleOf": 7}},
    }
    refused = await vllm.chat(messages=asked, response_format=bad, **greedy)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format")

    await vllm.settle()
    usage = await vllm.usage()
    assert len(usage) == 5
    assert (17, 10) in [row[:2] for row in usage]
    assert {row[1] for row in usage} >= {
        called["usage"]["completion_tokens"],
        held["usage"]["completion_tokens"],
    }
    assert vllm.directory.failures == []
