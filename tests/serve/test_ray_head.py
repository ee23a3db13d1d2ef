"""The head of a house pool is killed under load: TLS, a Redis of its own, and nobody notices."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import pytest

from raymart_core.wire.link import Observed, Placement
from raymart_core.wire.replica import ChatMessage, GenerateRequest, Sampling
from raymart_providers.pool_membership import HeadProblem, check_head
from raymart_providers.pool_process import PoolAway, PoolProcess
from raymart_providers.ray_process.machine_ray import worker_command
from raymart_serve.crash_loops import DEATHS
from raymart_serve.replica.registration import ReplicaRegistration
from support.pool_members import authority, member
from support.ray_cluster import HouseCluster
from support.replica_client import ReplicaClient
from support.scripted_agent import ScriptedAgent

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
AWAY_S = 5.0
NODES = ("a", "b")


@dataclass
class Pool:
    """What the tests of this module share."""

    cluster: HouseCluster
    agents: dict[str, ScriptedAgent]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    cluster = HouseCluster()
    agents: dict[str, ScriptedAgent] = {}
    try:
        cluster.start_head()
        for node in NODES:
            agent_file = cluster.directory / f"agent-{node}.json"
            agents[node] = ScriptedAgent(agent_file).__enter__()
            cluster.start_node(node, environment={"RAYMART_AGENT_FILE": str(agent_file)})
        yield Pool(cluster, agents)
    finally:
        for agent in agents.values():
            agent.__exit__(None, None, None)
        cluster.stop()
    assert cluster.leftovers() == []


def placement(node: str) -> Placement:
    return Placement(
        placement_id=f"plc-{node}",
        node=node,
        model="raymart/demo-chat",
        revision="sha256:" + "12" * 32,
        engine="llama_cpp",
        source="bundled:demo-llm.gguf",
        sha256=SHA256,
        context_length=1024,
        replicas_min=1,
        replicas_max=1,
        slots=2,
    )


@dataclass
class Customers:
    """Ask each replica again and again, on connections of their own."""

    replicas: list[ReplicaRegistration]
    served: int = 0
    failures: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, replica: ReplicaRegistration) -> None:
        request = GenerateRequest(
            messages=(ChatMessage(role="user", content="What is 7 + 5?"),),
            sampling=msgspec.convert({"max_tokens": 60, "temperature": 0.0}, Sampling),
        )
        while not self.stopping.wait(0.05):
            began = time.monotonic()
            try:
                with ReplicaClient(replica.address, replica.secret) as client:
                    text = client.generate(request).text()
                assert text == "7 + 5 = 12.", text
                self.served += 1
            except Exception as error:  # noqa: BLE001 - whatever a customer may see is a failure
                self.failures.append(f"{type(error).__name__}: {error}")
            self.longest_s = max(self.longest_s, time.monotonic() - began)

    def __enter__(self) -> "Customers":
        self._threads = [threading.Thread(target=self.run, args=(one,), daemon=True) for one in self.replicas]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()


async def observed_running(
    serve: PoolProcess, placements: list[Placement], *, timeout_s: float = 150.0
) -> tuple[Observed, ...]:
    """As the controller does it: connect whenever the pool is away, apply, look."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                if not serve.connected:
                    await serve.connect()
                    await serve.call(placements)
                seen = await serve.call(None)
            except PoolAway:
                await asyncio.sleep(0.5)
                continue
            if len(seen) == len(placements) and all(one.state == "running" for one in seen):
                return seen
            await asyncio.sleep(0.2)


class TestHead:
    """In this order: a cluster takes half a minute to start."""

    async def test_the_preflight_knows_this_head_from_others(self, pool: Pool, tmp_path) -> None:
        """Ray's own server against our check: it wants a certificate of the pool, and shows one."""
        await check_head(pool.cluster.address, pool.cluster.member("newcomer"))
        stranger = member(tmp_path / "stranger", authority()).environment
        with pytest.raises(HeadProblem) as problem:
            await check_head(pool.cluster.address, stranger)
        assert problem.value.reason == "not_the_pools"
        # One that believes this head, but shows the head another authority's certificate.
        ours = pool.cluster.member("newcomer")
        impostor = {**stranger, "RAY_TLS_CA_CERT": ours["RAY_TLS_CA_CERT"]}
        with pytest.raises(HeadProblem) as problem:
            await check_head(pool.cluster.address, impostor)
        assert problem.value.reason == "refused_us"

    async def test_a_killed_head_comes_back_and_no_request_fails(self, pool: Pool) -> None:
        environment = {**pool.cluster.authentication}
        serve = PoolProcess(worker_command(pool.cluster.address), environment=_with_path(environment))
        placements = [placement(node) for node in NODES]
        try:
            await observed_running(serve, placements)
            before = {node: pool.agents[node].wait_for(lambda one: one.state == "ready") for node in NODES}
            with Customers(list(before.values())) as customers:
                await asyncio.sleep(1.0)
                await asyncio.to_thread(pool.cluster.kill_head)
                await asyncio.sleep(AWAY_S)
                served_without_head = customers.served
                await asyncio.to_thread(pool.cluster.start_head)
                seen = await observed_running(serve, placements)
                # Health checks of the new Serve controller have come round by then.
                await asyncio.sleep(8.0)
                seen = await observed_running(serve, placements)
        finally:
            await serve.close()
        assert customers.failures == []
        assert served_without_head > 20
        assert customers.longest_s < 10.0
        assert {one.placement_id: one.replicas for one in seen} == {"plc-a": 1, "plc-b": 1}
        for node in NODES:
            pids = {one.pid for one in pool.agents[node].registrations if one.state == "ready"}
            assert pids == {before[node].pid}, "a replica was replaced"

    async def test_a_replica_that_crash_loops_is_backed_off_reported_and_tried_again(
        self, pool: Pool
    ) -> None:
        """Somebody shoots each replica as soon as it is there; Serve alone would start them for ever."""
        serve = PoolProcess(
            worker_command(pool.cluster.address), environment=_with_path({**pool.cluster.authentication})
        )
        placements = [placement("a"), placement("b")]
        agent = pool.agents["a"]
        shot: set[int] = set()
        try:
            await observed_running(serve, placements)
            async with asyncio.timeout(240):
                while True:
                    for replica in agent.registrations:
                        if replica.state == "ready" and replica.pid not in shot and len(shot) < DEATHS + 1:
                            shot.add(replica.pid)
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(replica.pid, signal.SIGKILL)
                    seen = {one.placement_id: one for one in await serve.call(None)}
                    if "crash loop" in seen["plc-a"].reason:
                        break
                    await asyncio.sleep(0.2)
            assert (seen["plc-a"].state, seen["plc-a"].replicas) == ("failed", 0)
            assert seen["plc-a"].restarts >= DEATHS
            assert "next try at" in seen["plc-a"].reason
            assert (seen["plc-b"].state, seen["plc-b"].restarts) == ("running", 0)
            count = len(agent.registrations)
            back = {one.placement_id: one for one in await observed_running(serve, placements)}
            assert back["plc-a"].restarts >= DEATHS
            assert len(agent.registrations) > count
            assert serve.ray_nodes == NODES
        finally:
            await serve.close()


def _with_path(environment: dict[str, str]) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        **environment,
    }
