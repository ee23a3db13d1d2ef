"""A pool controller's link: placements out, reports in."""

import asyncio
import contextlib

import pytest
from sqlalchemy import select

from raymart_core.wire.link import Desired, Heartbeat, Leave, Observed, Report
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import NodeRole, Placement, PlacementState
from raymart_marketplace.supply.service import close_offer
from support.raw_node import again, live_node, raw_node


@contextlib.asynccontextmanager
async def live_controller(market, supply):
    async with raw_node(market) as node:
        await node.enrol(await supply.join_token(NodeRole.CONTROLLER), name="controller")
        await node.prove(role="controller")
        yield node


class TestDesired:
    async def test_a_controller_gets_the_pools_placements_at_once(self, market, supply):
        async with live_node(market, supply, name="node-a"), live_controller(market, supply) as controller:
            desired = await controller.hear_until(Desired)
        (placement,) = desired.placements
        assert (placement.node, placement.model, placement.revision) == (
            "node-a",
            supply.model_slug,
            supply.digest,
        )

    async def test_a_local_change_is_pushed_at_once_and_generations_grow(self, market, supply, sessions):
        async with live_node(market, supply), live_controller(market, supply) as controller:
            first = await controller.hear_until(Desired)
            async with session_scope(sessions) as session:
                await close_offer(session, offer_id=supply.offer_id)
            await market.directory.refresh()
            async with asyncio.timeout(30):
                second = await controller.hear_until(Desired)
        assert second.placements == ()
        assert second.generation > first.generation

    async def test_a_change_elsewhere_is_pushed_with_the_next_heartbeat(self, market, supply):
        async with live_controller(market, supply) as controller:
            assert (await controller.hear_until(Desired)).placements == ()
            async with live_node(market, supply):
                await controller.say(Heartbeat(clock_ms=1))
                assert len((await controller.hear_until(Desired)).placements) == 1

    async def test_unchanged_placements_are_not_sent_again(self, market, supply):
        async with live_controller(market, supply) as controller:
            await controller.hear_until(Desired)
            for _ in range(5):
                await controller.say(Heartbeat(clock_ms=1))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await controller.socket.recv()


class TestReport:
    async def test_a_report_is_kept(self, market, supply, sessions):
        async def placement():
            async with session_scope(sessions) as session:
                return (
                    await session.scalars(
                        select(Placement).where(Placement.revision_id == supply.revision_id)
                    )
                ).one()

        async with live_node(market, supply), live_controller(market, supply) as controller:
            desired = await controller.hear_until(Desired)
            for state, replicas in (("running", 1), ("failed", 0)):
                observed = Observed(
                    placement_id=desired.placements[0].placement_id,
                    state=state,
                    replicas=replicas,
                    reason=f"because {state}",
                )
                await controller.say(Report(generation=desired.generation, observed=(observed,)))
                async with asyncio.timeout(30):
                    while (row := await placement()).state is not PlacementState(state):
                        await asyncio.sleep(0.01)
                assert (row.replicas_running, row.reason) == (replicas, f"because {state}")

    async def test_a_controllers_replicas_are_not_routed_to(self, market, supply):
        async with live_controller(market, supply) as controller:
            await controller.announce(supply)
            await controller.say(Heartbeat(clock_ms=1))
            await controller.hear_until(Desired)
            assert market.directory.all_live() == []


class TestLeave:
    async def test_a_node_that_leaves_is_revoked_and_out_of_routing(self, market, supply):
        async with live_node(market, supply) as node:
            await node.say(Leave())
            refusal = await node.refusal()
            assert (refusal.reason, refusal.retry) == ("left", False)
            async with again(market, node) as back:
                await back.hello()
                assert (await back.refusal()).reason == "revoked"
