"""A whole provider on a real Ray cluster: offer to placement to replica to announced endpoint to tokens."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

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
from raymart_marketplace.supply.models import NodeRole
from support.link_market import make_supply, until
from support.node_agents import agent_process
from support.ray_cluster import RayCluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
ASK = encode(
    GenerateRequest(
        messages=(ChatMessage(role="user", content="Hello"),),
        sampling=Sampling(max_tokens=8, temperature=0.0),
    )
)


@pytest.fixture
async def supply(sessions):
    # A context length of its own: a revision is known by its manifest, and other tests publish the same weights.
    return await make_supply(sessions, source="bundled:demo-llm.gguf", sha256=SHA256, context_length=768)


@pytest.fixture
def cluster(tmp_path):
    """A head and the node "a", whose replicas look for the agent of `tmp_path/a`."""
    cluster = RayCluster()
    try:
        cluster.start_head()
        cluster.start_node("a", environment={"RAYMART_AGENT_FILE": str(tmp_path / "a" / "agent.json")})
        yield cluster
    finally:
        cluster.stop()


@contextlib.asynccontextmanager
async def controller_process(state_dir, market, cluster, token):
    log_path = state_dir.with_suffix(".log")
    command = [str(Path(sys.executable).parent / "raymart-provider"), "controller"]
    command += [f"--server={market.url}", "--name=controller", f"--state-dir={state_dir}", f"--token={token}"]
    command += [f"--ray-address={cluster.address}"]
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=log, env={**os.environ, **cluster.authentication}
        )
    try:
        yield process, log_path
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0, log_path.read_text()


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
    assert events[-1].revision == supply.digest
    return [token for event in events[1:-1] for token in event.t]


class TestPool:
    async def test_an_offer_becomes_tokens_and_survives_its_helpers_deaths(
        self, market, supply, cluster, tmp_path
    ):
        def live():
            return market.directory.live(supply.model_slug)

        async with (
            agent_process(tmp_path / "a", market, f"--token={await supply.join_token()}") as agent,
            controller_process(
                tmp_path / "controller", market, cluster, await supply.join_token(NodeRole.CONTROLLER)
            ) as (controller, log_path),
        ):
            await until(live, timeout_s=90)
            first = await tokens(market, supply)
            assert len(first) == 8

            # The agent dies and comes back: replicas find it by its file.
            agent.kill()
            await until(lambda: not live())
            async with agent_process(tmp_path / "a", market):
                await until(live, timeout_s=30)
                assert await tokens(market, supply) == first

                # The worker that speaks to Ray dies: another takes over and replaces nothing.
                (worker,) = psutil.Process(controller.pid).children()
                worker.kill()
                await until(lambda: log_path.read_text().count("pool.connected") >= 4, timeout_s=60)
                assert await tokens(market, supply) == first

                # A replica dies: it is out of routing at once, and Serve makes another.
                (replica,) = replicas(cluster)
                replica.send_signal(signal.SIGKILL)
                await until(lambda: not live(), timeout_s=2)
                await until(live, timeout_s=60)
                assert await tokens(market, supply) == first


def replicas(cluster):
    """Processes of Serve's replicas of this cluster."""
    found = []
    for process in cluster.leftovers():
        with contextlib.suppress(psutil.Error):
            if "ServeReplica" in " ".join(process.cmdline()):
                found.append(process)
    return found
