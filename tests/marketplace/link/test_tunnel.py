"""Inference through a real link: gateway's upstream, uvicorn, node agent, a scripted replica."""

import asyncio

import pytest

from raymart_core.wire.replica import GENERATE_PATH, GenerateRequest, Sampling, encode
from raymart_marketplace.supply.upstream import UpstreamBroken
from support.link_market import link_market, make_supply, until
from support.node_agents import register, registered, registration, running_agent
from support.scripted_replica import SECRET, ScriptedReplica

BODY = encode(GenerateRequest(sampling=Sampling(max_tokens=3), prompt="hi"))


class TestRoundTrip:
    async def test_a_request_reaches_the_replica_and_its_answer_comes_back(self, sessions, tmp_path):
        supply = await make_supply(sessions)
        async with link_market(sessions) as market, ScriptedReplica() as replica:
            async with running_agent(tmp_path / "a", market, token=await supply.join_token()):
                await register(tmp_path / "a", registration(supply, replica.address, SECRET))
                await until(lambda: market.directory.live(supply.model_slug))
                (endpoint,) = market.directory.live(supply.model_slug)
                with market.directory.acquire(endpoint.id) as lease:
                    response = await lease.upstream.post(
                        GENERATE_PATH, BODY, request_id="req_1", deadline_ms=5000
                    )
                    body = b"".join([chunk async for chunk in response.chunks()])
                    await response.aclose()
        assert response.status == 200
        assert body.count(b"\n") == 5
        assert replica.exchanges[0].headers["x-request-id"] == "req_1"
        assert replica.exchanges[0].headers["x-deadline-ms"] == "5000"
        assert replica.exchanges[0].body == BODY
