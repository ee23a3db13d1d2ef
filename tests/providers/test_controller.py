"""The pool controller against a real marketplace; the worker beside it is a script that fails on demand."""

import asyncio
import contextlib
import sys

import pytest
from sqlalchemy import select

from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import NodeRole, Placement, PlacementState
from raymart_marketplace.supply.service import close_offer
from raymart_providers.controller import PoolController
from raymart_providers.link.backoff import Backoff
from raymart_providers.placement_keeper import PlacementKeeper
from raymart_providers.pool_process import PoolProcess
from support.link_market import until
from support.node_agents import credentials
from support.raw_node import live_node

WORKER = """
import sys, json, os, pathlib
root = pathlib.Path(sys.argv[1])
def said(text):
    with (root / 'calls').open('a') as file:
        file.write(text + '\\n')
if (root / 'away').exists():
    print(json.dumps(dict(error='no Ray head listens')), flush=True)
    sys.exit(1)
print('{}', flush=True)
said('connect')
running = []
for line in sys.stdin:
    request = json.loads(line)
    if 'placements' in request:
        running = request['placements']
        said('apply ' + ' '.join(p['node'] for p in running))
    if (root / 'away').exists():
        print(json.dumps(dict(error='the Ray head is gone')), flush=True)
        continue
    state = 'placing' if (root / 'lost').exists() else 'running'
    seen = [dict(placement_id=p['placement_id'], state=state, replicas=1, reason='') for p in running]
    print(json.dumps(dict(observed=seen)), flush=True)
"""


class Stage:
    """Where the worker finds its stage directions and leaves what it was asked."""

    def __init__(self, root):
        self.root = root

    def calls(self, kind=""):
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(kind)]

    @contextlib.contextmanager
    def direction(self, name):
        (self.root / name).touch()
        yield
        (self.root / name).unlink()


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "stage").mkdir()
    return Stage(tmp_path / "stage")


@pytest.fixture
def pool(stage):
    return PoolProcess((sys.executable, "-c", WORKER, str(stage.root)))


@pytest.fixture
async def controller(market, supply, pool, tmp_path, monkeypatch):
    monkeypatch.setattr("raymart_providers.placement_keeper._REAPPLY_S", 0.3)
    controller = PoolController(
        url=market.link_url,
        credentials=credentials(
            tmp_path / "controller",
            market,
            token=await supply.join_token(NodeRole.CONTROLLER),
            role="controller",
        ),
        keeper=PlacementKeeper(pool, interval_s=0.1, pause=Backoff(first_s=0.02, longest_s=0.1)),
        backoff=Backoff(first_s=0.02, longest_s=0.2),
    )
    task = asyncio.create_task(controller.run())
    yield controller
    controller.stop()
    await task


@pytest.fixture
async def placement(sessions, supply, controller):
    """Waits for a state of the supply's only placement, as the marketplace has it; a controller runs."""

    async def placement(state, *, reason=""):
        async with asyncio.timeout(30):
            while True:
                async with session_scope(sessions) as session:
                    query = select(Placement).where(Placement.revision_id == supply.revision_id)
                    row = (await session.scalars(query)).one_or_none()
                if row is not None and row.state is state and reason in row.reason:
                    return row
                await asyncio.sleep(0.02)

    return placement


class TestReconcile:
    async def test_what_is_wanted_is_applied_once_and_reported(self, market, supply, stage, placement):
        async with live_node(market, supply, name="node-a"):
            row = await placement(PlacementState.RUNNING)
            assert row.replicas_running == 1
            await asyncio.sleep(0.4)
        assert stage.calls("apply node-a") == ["apply node-a"]

    async def test_a_placement_that_is_no_longer_wanted_is_taken_away(
        self, market, supply, sessions, stage, placement
    ):
        async with live_node(market, supply, name="node-a"):
            await placement(PlacementState.RUNNING)
            async with session_scope(sessions) as session:
                await close_offer(session, offer_id=supply.offer_id)
            await market.directory.refresh()
            await until(lambda: stage.calls()[-1] == "apply ")

    async def test_nothing_is_applied_before_the_marketplace_has_spoken(
        self, stage, pool, tmp_path, supply, sessions
    ):
        """An empty pool must not be concluded from silence: it would stop every replica."""
        from support.link_market import link_market

        async with link_market(sessions) as market:
            pass
        controller = PoolController(
            url=market.link_url,
            credentials=credentials(tmp_path / "c", market, token="rmj_x", role="controller"),
            keeper=PlacementKeeper(pool, interval_s=0.01),
        )
        task = asyncio.create_task(controller.run())
        await asyncio.sleep(0.3)
        controller.stop()
        await task
        assert stage.calls() == []

    async def test_a_placement_that_does_not_run_is_applied_again(self, market, supply, stage, placement):
        async with live_node(market, supply, name="node-a"):
            await placement(PlacementState.RUNNING)
            with stage.direction("lost"):
                await placement(PlacementState.PLACING)
                await until(lambda: len(stage.calls("apply node-a")) >= 3)
            await placement(PlacementState.RUNNING)

    async def test_ray_away_is_reported_and_mends_itself(self, market, supply, stage, placement):
        with stage.direction("away"):
            async with live_node(market, supply, name="node-a"):
                await placement(PlacementState.PLACING, reason="no Ray head listens")
        async with live_node(market, supply, name="node-b"):
            await placement_of_both(stage)

    async def test_ray_lost_in_mid_life_is_reported_and_all_is_applied_to_the_new_one(
        self, market, supply, stage, placement
    ):
        async with live_node(market, supply, name="node-a"):
            await placement(PlacementState.RUNNING)
            with stage.direction("away"):
                await placement(PlacementState.PLACING, reason="the Ray head is gone")
            await placement(PlacementState.RUNNING)
        assert stage.calls("connect") == ["connect"] * 2
        assert stage.calls("apply node-a") == ["apply node-a"] * 2

    async def test_a_killed_worker_is_replaced(self, market, supply, pool, stage, placement):
        async with live_node(market, supply, name="node-a"):
            await placement(PlacementState.RUNNING)
            pool._process.kill()
            await until(lambda: len(stage.calls("apply node-a")) == 2)

    async def test_a_restarted_marketplace_gets_the_report_again(
        self, market, supply, sessions, stage, placement
    ):
        async with live_node(market, supply, name="node-a"):
            await placement(PlacementState.RUNNING)
        async with session_scope(sessions) as session:
            query = select(Placement).where(Placement.revision_id == supply.revision_id)
            (await session.scalars(query)).one().state = PlacementState.REQUESTED
        await market.stop()
        await market.start()
        await placement(PlacementState.RUNNING)


async def placement_of_both(stage):
    await until(lambda: stage.calls("apply node-a node-b"))
