"""Placement on a real Ray cluster: one head, two labelled nodes, two scripted agents, all on loopback."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from raymart_core.wire.link import Observed, Placement
from raymart_core.wire.replica import (
    ChatMessage,
    FinishEvent,
    GenerateRequest,
    Sampling,
    StepEvent,
)
from raymart_serve.placement import ServePool
from raymart_serve.replica.registration import ReplicaRegistration
from support.ray_cluster import RayCluster
from support.replica_client import ReplicaClient
from support.scripted_agent import ScriptedAgent

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

REVISION = "sha256:" + "12" * 32
GENEROUS_S = 150.0
"""A replica starts in 5 s on an idle machine, and was seen to take 40 s on one with a load of 8."""
SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"


@dataclass
class Pool:
    """What the tests of this module share."""

    serve: ServePool
    agents: dict[str, ScriptedAgent]

    def observe(self, placement_id: str) -> Observed | None:
        return next((one for one in self.serve.observe() if one.placement_id == placement_id), None)

    def wait(
        self, placement_id: str, holds: Callable[[Observed | None], bool], *, timeout_s: float = GENEROUS_S
    ) -> Observed | None:
        deadline = time.monotonic() + timeout_s
        while not holds(observed := self.observe(placement_id)):
            assert time.monotonic() < deadline, observed
            time.sleep(0.1)
        return observed


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    cluster = RayCluster()
    patch = pytest.MonkeyPatch()
    agents: dict[str, ScriptedAgent] = {}
    try:
        for name, value in cluster.authentication.items():
            patch.setenv(name, value)
        cluster.start_head()
        for node in ("a", "b"):
            agent_file = cluster.directory / f"agent-{node}.json"
            agents[node] = ScriptedAgent(agent_file).__enter__()
            cluster.start_node(node, environment={"RAYMART_AGENT_FILE": str(agent_file)})
        serve = ServePool(cluster.address)
        serve.connect()
        yield Pool(serve, agents)
        serve.close()
    finally:
        for agent in agents.values():
            agent.__exit__(None, None, None)
        cluster.stop()
        patch.undo()
    assert cluster.leftovers() == []


def placement(
    node: str,
    *,
    named: str | None = None,
    count: tuple[int, int] = (1, 1),
    sha256: str = SHA256,
    idle_s: float = 60.0,
) -> Placement:
    return Placement(
        placement_id=named or f"plc-{node}",
        node=node,
        model="raymart/demo-chat",
        revision=REVISION,
        engine="llama_cpp",
        source="bundled:demo-llm.gguf",
        sha256=sha256,
        context_length=1024,
        replicas_min=count[0],
        replicas_max=count[1],
        slots=2,
        idle_s=idle_s,
    )


BROKEN = placement("a", named="plc-broken", sha256="0" * 64)


def running(count: int) -> Callable[[Observed | None], bool]:
    return lambda observed: (
        observed is not None and observed.state == "running" and observed.replicas == count
    )


def ask(text: str, **sampling: object) -> GenerateRequest:
    return GenerateRequest(
        messages=(ChatMessage(role="user", content=text),),
        sampling=msgspec.convert({"max_tokens": 60, "temperature": 0.0, **sampling}, Sampling),
    )


def large() -> GenerateRequest:
    """Twenty alternatives a token make the stream larger than all buffers, so that its reader sets the pace."""
    return ask("Hello!", max_tokens=900, ignore_eos=True, top_logprobs=20)


def slow_client(replica: ReplicaRegistration) -> ReplicaClient:
    return ReplicaClient(replica.address, replica.secret, receive_bytes=32768)


def pids(registrations: Sequence[ReplicaRegistration]) -> set[int]:
    return {one.pid for one in registrations if one.state == "ready"}


class TestServePool:
    """The tests build on each other in this order: a cluster takes half a minute to start."""

    def test_placements_run_on_their_nodes_and_answer(self, pool: Pool) -> None:
        # The broken one is there from the start: Serve tries it three times, which takes a while.
        pool.serve.apply([placement("a"), placement("b"), BROKEN])
        for node in ("a", "b"):
            pool.wait(f"plc-{node}", running(1))
            found = pool.agents[node].wait_for()
            assert (found.state, found.revision, found.capacity) == ("ready", REVISION, 2)
            assert _node_of(found.pid) == node
            with ReplicaClient(found.address, found.secret) as client:
                assert client.generate(ask("What is 7 + 5?")).text() == "7 + 5 = 12."

    def test_a_change_of_size_keeps_the_running_replica(self, pool: Pool) -> None:
        agent = pool.agents["a"]
        (before,) = pids(agent.registrations)
        pool.serve.apply([placement("a", count=(2, 2)), placement("b"), BROKEN])
        pool.wait("plc-a", running(2))
        agent.wait_for(lambda one: one.pid != before)
        assert before in pids(agent.registrations)
        agent.forget()
        assert agent.wait_for(lambda one: one.pid == before).state == "ready"
        pool.serve.apply([placement("a", count=(1, 1)), placement("b"), BROKEN])
        pool.wait("plc-a", running(1))
        agent.wait_for(lambda one: one.state == "gone")

    def test_a_broken_placement_fails_alone_with_the_reason(self, pool: Pool) -> None:
        (before,) = pids(pool.agents["b"].registrations)
        pool.serve.apply([placement("b"), BROKEN, placement("b", named="plc-odd", count=(2, 1))])
        broken = pool.wait("plc-broken", lambda observed: observed is not None and observed.state == "failed")
        assert broken is not None
        assert "SHA-256" in broken.reason
        odd = pool.observe("plc-odd")
        assert odd is not None
        assert odd.state == "failed"
        assert "2..1" in odd.reason
        pool.agents["b"].forget()
        assert pool.agents["b"].wait_for().pid == before

    def test_a_node_that_does_not_exist_is_named(self, pool: Pool) -> None:
        pool.serve.apply([placement("nowhere"), placement("b")])
        observed = pool.observe("plc-nowhere")
        assert observed is not None
        assert observed.state == "placing"
        assert "raymart.io/node='nowhere'" in observed.reason
        assert "live: a, b" in observed.reason

    def test_load_brings_a_second_replica(self, pool: Pool) -> None:
        """Load is what replicas report; Serve's handles see nothing of it."""
        agent = pool.agents["a"]
        agent.forget()
        pool.serve.apply([placement("a", named="plc-auto", count=(1, 2)), placement("b")])
        pool.wait("plc-auto", running(1))
        agent.forget()  # Whoever has left meanwhile: it was ready when it was last heard.
        first = agent.wait_for(lambda one: one.state == "ready")
        # Two slots, two streams that their readers leave standing.
        with slow_client(first) as one, slow_client(first) as two:
            for client in (one, two):
                next(client.generate(large()).events())
            pool.wait("plc-auto", running(2))

    def test_what_sleeps_wakes_on_demand_grows_with_load_and_sleeps_again(self, pool: Pool) -> None:
        """0 -> 1 by demand alone, 1 -> 2 by the load that the replica reports, -> 0 when there is neither."""
        agent = pool.agents["a"]
        agent.forget()
        pool.serve.apply([placement("a", named="plc-sleeper", count=(0, 2), idle_s=4.0), placement("b")])
        asleep = pool.wait("plc-sleeper", lambda seen: seen is not None and seen.state == "running")
        assert asleep is not None
        assert (asleep.replicas, asleep.reason, asleep.cold_start_ms) == (0, "scaled to zero", None)
        pool.serve.demand({"plc-sleeper": 0.5, "plc-unknown": 3.0})
        awake = pool.wait("plc-sleeper", running(1))
        assert awake is not None
        assert awake.cold_start_ms is not None
        assert 100 < awake.cold_start_ms < GENEROUS_S * 1_000
        agent.forget()  # Replicas of the test before have left meanwhile, and were ready when they were last heard.
        replica = agent.wait_for(lambda one: one.state == "ready")
        with slow_client(replica) as one, slow_client(replica) as two:
            for client in (one, two):
                next(client.generate(large()).events())
            pool.serve.demand({})
            pool.wait("plc-sleeper", running(2))
        asleep = pool.wait("plc-sleeper", running(0))
        assert asleep is not None
        assert asleep.reason == "scaled to zero"

    def test_a_killed_replica_is_replaced_and_registers(self, pool: Pool) -> None:
        agent = pool.agents["b"]
        before = agent.wait_for()
        os.kill(before.pid, signal.SIGKILL)
        after = agent.wait_for(lambda one: one.pid != before.pid)
        assert after.secret != before.secret
        with ReplicaClient(after.address, after.secret) as client:
            assert client.generate(ask("ping")).text() == "pong"
        agent.forget()

    def test_a_removed_placement_lets_its_stream_finish(self, pool: Pool) -> None:
        agent = pool.agents["b"]
        replica = agent.wait_for()
        with slow_client(replica) as client:
            events = client.generate(large()).events()
            next(events)
            pool.serve.apply([])
            agent.wait_for(lambda one: one.state == "draining")
            observed = pool.observe("plc-b")
            assert observed is not None
            assert (observed.state, observed.reason) == ("gone", "draining")
            with ReplicaClient(replica.address, replica.secret) as late:
                assert late.generate(ask("ping")).status == 503
            rest = list(events)
        assert isinstance(rest[-1], FinishEvent)
        assert sum(len(event.t) for event in rest if isinstance(event, StepEvent)) == 900
        agent.wait_for(lambda one: one.state == "gone")
        pool.wait("plc-b", lambda observed: observed is None)


def _node_of(pid: int) -> str:
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    path = next(entry for entry in environment if entry.startswith(b"RAYMART_AGENT_FILE="))
    return path.decode().rpartition("agent-")[2].removesuffix(".json")
