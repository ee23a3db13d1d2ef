"""`raymart-provider join` alone makes a machine serve: its own Ray, its own controller, beside a stranger's Ray."""

import asyncio
import contextlib
import os
import signal

import psutil
import pytest

from raymart_core.wire.replica import (
    GENERATE_PATH,
    ChatMessage,
    FinishEvent,
    GenerateRequest,
    Sampling,
    decode_event,
    encode,
)
from raymart_marketplace.supply.models import PoolKind
from raymart_providers.ray_process.own_files import RayHome
from raymart_providers.ray_process.sweep import marked, sweep
from support.link_market import make_supply, until
from support.node_agents import agent_process
from support.ray_cluster import RayCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
ASK = encode(
    GenerateRequest(
        messages=(ChatMessage(role="user", content="Hello"),),
        sampling=Sampling(max_tokens=8, temperature=0.0),
    )
)


@pytest.fixture
async def supply(sessions):
    return await make_supply(
        sessions,
        pool_kind=PoolKind.PROVIDER,
        source="bundled:demo-llm.gguf",
        sha256=SHA256,
        context_length=704,
    )


@pytest.fixture
def stranger():
    """Somebody else's Ray on the same machine, of the same user."""
    cluster = RayCluster()
    try:
        cluster.start_head()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def home(tmp_path):
    home = RayHome(tmp_path / "gpu-1" / "ray")
    try:
        yield home
    finally:
        sweep(home.mark)
        home.forget()


async def tokens(market, supply):
    """Ids of the greedy answer, through the link."""
    (endpoint,) = market.directory.live(supply.model_slug)
    with market.directory.acquire(endpoint.id) as lease:
        response = await lease.upstream.post(GENERATE_PATH, ASK, request_id="req_1", deadline_ms=20_000)
        body = b"".join([chunk async for chunk in response.chunks()])
        await response.aclose()
    assert response.status == 200, body
    events = [decode_event(line) for line in body.splitlines()]
    assert isinstance(events[-1], FinishEvent)
    return [token for event in events[1:-1] for token in event.t]


def named(home, text):
    """Processes of the machine's Ray with `text` in their command line."""
    found = []
    for process in marked(home.mark):
        with contextlib.suppress(psutil.Error):
            if text in " ".join(process.cmdline()):
                found.append(process)
    return found


class TestJoin:
    async def test_one_command_serves_survives_its_parts_deaths_and_leaves_nothing(
        self, market, supply, stranger, home, tmp_path
    ):
        def live():
            return market.directory.live(supply.model_slug)

        state_dir = tmp_path / "gpu-1"
        strangers = {process.pid for process in stranger.leftovers()}
        token = await supply.join_token()
        async with agent_process(state_dir, market, f"--token={token}", "--ray=auto") as agent:
            await until(live, timeout_s=120)
            first = await tokens(market, supply)
            assert len(first) == 8

            # The agent is killed: Ray and the replica go on, and the next agent takes them over.
            [raylet] = named(home, "raylet/raylet")
            agent.kill()
            await until(lambda: not live())
            async with agent_process(state_dir, market, "--ray=auto") as second:
                await until(live, timeout_s=30)
                assert await tokens(market, supply) == first
                assert [process.pid for process in named(home, "raylet/raylet")] == [raylet.pid]

                # Ray is killed, and what it left behind does not stand in the way of the next.
                raylet.kill()
                await until(lambda: not live(), timeout_s=20)
                await until(live, timeout_s=120)
                assert await tokens(market, supply) == first

                second.process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(60):
                    assert await second.process.wait() == 0, second.log
        assert marked(home.mark) == []
        assert {process.pid for process in stranger.leftovers()} == strangers
        assert os.getpid() not in strangers
