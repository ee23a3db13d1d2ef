"""Nodes are measured over a real link by a real agent: what passes is ready and routed to, what lies is named."""

import asyncio

import msgspec
import pytest
from sqlalchemy import select

from raymart_core.ids import Prefix, new_id, parse
from raymart_core.wire.link import Announce
from raymart_core.wire.machine import BenchmarkOrder, BenchmarkResult, Telemetry
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.benchmarks.models import Benchmark, BenchmarkCheck, BenchmarkState
from raymart_marketplace.supply.benchmarks.records import request
from raymart_marketplace.supply.life_models import NodeEvent
from raymart_marketplace.supply.models import Node, NodeState
from support.benchmarked import H200, agents_desk, measuring_market, played_gpu
from support.link_market import make_supply, until
from support.node_agents import HARDWARE, register, registration, running_agent
from support.raw_node import live_node, raw_node
from support.scripted_replica import SECRET, ScriptedReplica


@pytest.fixture
async def supply(sessions):
    return await make_supply(sessions)


@pytest.fixture
async def measuring(sessions):
    async with measuring_market(sessions) as (market, desk):
        yield market, desk


@pytest.fixture
def card():
    """An H200 of this test's own: one card in two nodes is refused."""
    return msgspec.structs.replace(H200, uuid=f"GPU-{new_id().hex}")


async def node_row(sessions, supply):
    async with session_scope(sessions) as session:
        return (await session.scalars(select(Node).where(Node.pool_id == supply.pool_id))).one()


async def ended(sessions, node_id, *, number=1):
    """The node's benchmarks once `number` of them have ended, oldest first; there is no event to await for a row."""
    statement = select(Benchmark).where(Benchmark.node_id == node_id).order_by(Benchmark.id)
    async with asyncio.timeout(30):
        while True:
            async with session_scope(sessions) as session:
                found = (await session.scalars(statement)).all()
            if sum(row.finished_at is not None for row in found) >= number:
                return found
            await asyncio.sleep(0.02)


async def reasons(sessions, benchmark_id):
    async with session_scope(sessions) as session:
        rows = await session.scalars(
            select(BenchmarkCheck)
            .where(BenchmarkCheck.benchmark_id == benchmark_id)
            .order_by(BenchmarkCheck.position)
        )
        return {(row.check_name, row.device): row.reason for row in rows}


class TestHonest:
    async def test_a_new_node_is_measured_and_then_ready_and_sold(
        self, sessions, supply, measuring, tmp_path
    ):
        market, desk = measuring
        desk_of_agent = agents_desk(tmp_path / "node")
        async with (
            ScriptedReplica() as replica,
            running_agent(
                tmp_path / "node", market, token=await supply.join_token(), duties=(desk_of_agent,)
            ),
        ):
            await register(tmp_path / "node", registration(supply, replica.address, SECRET))
            node = await node_row(sessions, supply)
            (benchmark,) = await ended(sessions, node.id)
            found = await reasons(sessions, benchmark.id)
            assert (benchmark.state, benchmark.cause.value) == (BenchmarkState.PASSED, "new"), found
            assert set(found.values()) == {None}
            await until(lambda: market.directory.live(supply.model_slug))
            assert (await node_row(sessions, supply)).state is NodeState.READY
            assert desk.outcomes["passed"] == 1
        async with session_scope(sessions) as session:
            events = (
                await session.scalars(
                    select(NodeEvent).where(NodeEvent.node_id == node.id).order_by(NodeEvent.id)
                )
            ).all()
        happened = [event.event.value for event in events]
        assert happened.index("benchmark_started") < happened.index("benchmark_passed")

    async def test_the_same_hardware_is_not_measured_again(self, sessions, supply, measuring, tmp_path):
        market, _ = measuring
        for token in (await supply.join_token(), None):
            async with running_agent(
                tmp_path / "node", market, token=token, duties=(agents_desk(tmp_path / "node"),)
            ):
                node = await node_row(sessions, supply)
                await ended(sessions, node.id)
        assert len(await ended(sessions, node.id)) == 1

    async def test_it_is_measured_when_somebody_asks(self, sessions, supply, measuring, tmp_path):
        market, _ = measuring
        async with running_agent(
            tmp_path / "node",
            market,
            token=await supply.join_token(),
            duties=(agents_desk(tmp_path / "node"),),
        ):
            node = await node_row(sessions, supply)
            await ended(sessions, node.id)
            async with session_scope(sessions) as session:
                asked = await request(session, node_id=node.id, asked_by=None)
                again = await request(session, node_id=node.id, asked_by=None)
            assert asked.id == again.id
            _, second = await ended(sessions, node.id, number=2)
            assert (second.id, second.state, second.cause.value) == (asked.id, BenchmarkState.PASSED, "asked")

    async def test_changed_hardware_is_measured_again(self, sessions, supply, measuring, tmp_path):
        market, _ = measuring
        more = msgspec.structs.replace(HARDWARE, memory_bytes=2**34)
        for token, hardware in ((await supply.join_token(), HARDWARE), (None, more)):
            async with running_agent(
                tmp_path / "node",
                market,
                token=token,
                hardware=hardware,
                duties=(agents_desk(tmp_path / "node"),),
            ):
                node = await node_row(sessions, supply)
                await ended(sessions, node.id, number=1 if hardware is HARDWARE else 2)
        causes = [benchmark.cause.value for benchmark in await ended(sessions, node.id, number=2)]
        assert causes == ["new", "changed"]


class TestLiars:
    async def measured(self, supply, market, folder, *, gpu, command):
        sessions = supply.sessions
        async with running_agent(
            folder / "node",
            market,
            token=await supply.join_token(),
            hardware=msgspec.structs.replace(HARDWARE, gpus=(gpu,)),
            duties=(agents_desk(folder / "node", command),),
        ):
            node = await node_row(sessions, supply)
            (benchmark,) = await ended(sessions, node.id)
            return node, benchmark, await reasons(sessions, benchmark.id)

    async def test_a_card_that_is_what_it_says_passes(self, sessions, supply, measuring, tmp_path, card):
        _, benchmark, found = await self.measured(
            supply, measuring[0], tmp_path, gpu=card, command=played_gpu(card)
        )
        assert set(found.values()) == {None}
        assert benchmark.state is BenchmarkState.PASSED

    async def test_a_slow_card_with_a_fast_ones_name_is_not_sold(
        self, sessions, supply, measuring, tmp_path, card
    ):
        node, benchmark, found = await self.measured(
            supply, measuring[0], tmp_path, gpu=card, command=played_gpu(card, slowness=1.0)
        )
        assert benchmark.state is BenchmarkState.FAILED
        assert found["gpu_matrix", card.uuid] == "gpu_too_slow_for_model"
        assert found["gpu_memory_bandwidth", card.uuid] == "gpu_memory_too_slow_for_model"
        assert found["cpu_matrix", ""] is None
        async with session_scope(sessions) as session:
            last = await session.scalar(
                select(NodeEvent)
                .where(NodeEvent.node_id == node.id, NodeEvent.event == "benchmark_failed")
                .order_by(NodeEvent.id.desc())
                .limit(1)
            )
        assert last.to_state is NodeState.ENROLLED
        assert "gpu_too_slow_for_model" in last.reason

    async def test_a_card_with_another_ones_memory_is_named(
        self, sessions, supply, measuring, tmp_path, card
    ):
        small = msgspec.structs.replace(card, memory_bytes=24 * 2**30)
        _, _, found = await self.measured(
            supply, measuring[0], tmp_path, gpu=small, command=played_gpu(small)
        )
        assert [name for name, reason in found.items() if reason] == [("gpu_memory", card.uuid)]
        assert found["gpu_memory", card.uuid] == "gpu_memory_not_of_model"


class TestRouting:
    async def test_what_failed_is_not_routed_to(self, sessions, supply, measuring, tmp_path, card):
        market, _ = measuring
        small = msgspec.structs.replace(card, memory_bytes=24 * 2**30)
        async with (
            ScriptedReplica() as replica,
            running_agent(
                tmp_path / "node",
                market,
                token=await supply.join_token(),
                hardware=msgspec.structs.replace(HARDWARE, gpus=(small,)),
                duties=(agents_desk(tmp_path / "node", played_gpu(small)),),
            ),
        ):
            await register(tmp_path / "node", registration(supply, replica.address, SECRET))
            node = await node_row(sessions, supply)
            await ended(sessions, node.id)
            await market.directory.load(node.id)
            assert not market.directory.live(supply.model_slug)


class TestOdd:
    async def test_answers_that_nobody_asked_for_are_let_pass(self, supply, measuring):
        market, _ = measuring
        async with live_node(market, supply) as node:
            await node.say(BenchmarkResult(order="nobody", amount=1.0))
            await node.say(Telemetry(clock_ms=1, cpu_percent=1.0, memory_used_bytes=1, disk_free_bytes=1))
            await node.announce(supply)
            # The announcement was taken, so what came before it was.
            await until(lambda: market.directory.live(supply.model_slug) or True)
            assert node.socket.close_code is None

    async def test_a_link_that_ends_meanwhile_leaves_the_node_to_be_measured_at_the_next(
        self, sessions, supply, measuring
    ):
        market, _ = measuring
        async with live_node(market, supply) as node:
            await node.say(Announce(hardware=HARDWARE, replicas=()))
            await node.hear_until(BenchmarkOrder)
            node_id, key, name = parse(Prefix.NODE, node.node_id), node.key, node.node_id
        async with raw_node(market, key) as back:
            back.node_id = name
            await back.prove()
            await back.say(Announce(hardware=HARDWARE, replicas=()))
            await back.hear_until(BenchmarkOrder)
        first, second = (await ended(sessions, node_id))[:2]
        assert (first.state, second.state) == (BenchmarkState.LOST, BenchmarkState.RUNNING)
