"""Demand over links: queues come in from nodes, and what waits goes out to the controller that can wake it."""

import asyncio

import pytest
from sqlalchemy import update

from raymart_core.wire.link import Announce, Demand, Desired, Heartbeat, Replica
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.shared_state import make_redis
from raymart_marketplace.supply.demand_board import DemandBoard
from raymart_marketplace.supply.models import NodeRole, Offer, Warmth
from raymart_marketplace.supply.placements import place_offers
from raymart_marketplace.supply.planning.demand import Demands
from support.link_market import link_market
from support.raw_node import HARDWARE, live_node, raw_node


@pytest.fixture
async def board():
    redis = make_redis("redis://127.0.0.1:1/0")  # Nobody there: this process knows its own all the same.
    yield DemandBoard(Demands(redis), gateway_id="test")
    await redis.aclose()


@pytest.fixture
async def market(sessions, board):
    async with link_market(sessions, demand=board) as market:
        yield market


async def hear_demand(controller, **wanted):
    """Until the last word on demand is `wanted`; other messages and repeats pass."""
    async with asyncio.timeout(30):
        while (await controller.hear_until(Demand)).replicas != wanted:
            pass


class TestDemand:
    async def test_the_controller_is_told_what_waits_and_when_nothing_does_any_more(
        self, market, supply, sessions, board
    ):
        async with session_scope(sessions) as session:
            sleeps = update(Offer).where(Offer.id == supply.offer_id).values(warmth=Warmth.ON_DEMAND)
            await session.execute(sleeps)
        async with live_node(market, supply), raw_node(market) as controller:
            async with session_scope(sessions) as session:
                await place_offers(session, provider_id=supply.provider_id)
            await controller.enrol(await supply.join_token(NodeRole.CONTROLLER), name="controller")
            await controller.prove(role="controller")
            (placement,) = (await controller.hear_until(Desired)).placements
            assert placement.replicas_min == 0
            with board.waiting(supply.offer_id), board.waiting(supply.offer_id):
                # Without a heartbeat: the wait itself makes the link look.
                await hear_demand(controller, **{placement.placement_id: 2 / placement.slots})
            await controller.say(Heartbeat(clock_ms=1))
            await hear_demand(controller)


class TestQueues:
    async def test_a_heartbeat_s_queues_are_kept_by_revision_until_the_link_ends(self, market, supply, board):
        replica = Replica(
            replica_id="r1",
            revision=supply.digest,
            model=supply.model_slug,
            engine="llama_cpp",
            capacity=4,
            context_length=1024,
            state="ready",
        )
        async with live_node(market, supply) as node:
            await node.say(Announce(hardware=HARDWARE, replicas=(replica,)))
            await node.say(Heartbeat(clock_ms=1, waiting={"r1": 7, "unknown": 5}))
            async with asyncio.timeout(30):
                while (await board.read()).queued != {supply.digest: 7}:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while (await board.read()).queued:
                await asyncio.sleep(0.01)
