"""A machine that runs its provider pool's Ray head: told its placements and heard about them on the node's own link."""

import asyncio
import contextlib
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import func, select

from raymart_core.wire.link import Announce, Desired, Heartbeat, Observed, Refuse, Report
from raymart_core.wire.membership import PoolAsk, PoolGrant, PoolRefusal
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.membership import PoolDesk
from raymart_marketplace.supply.membership.models import PoolMember, PoolStatus
from raymart_marketplace.supply.models import NodeRole, Placement, PlacementState, PoolKind
from support.link_market import link_market, make_supply
from support.raw_node import HARDWARE, again, raw_node

CONTROLS = Announce(hardware=HARDWARE, replicas=(), controls=True)


@pytest.fixture
async def own(sessions):
    """A supply in a provider pool."""
    return await make_supply(sessions, pool_kind=PoolKind.PROVIDER)


async def joined(node, supply, name):
    await node.enrol(await supply.join_token(), name=name)
    return await node.prove()


class TestWelcome:
    async def test_a_machine_is_told_what_kind_of_pool_it_has_joined(self, market, supply, own):
        for one, kind in ((supply, "house"), (own, "provider")):
            async with raw_node(market) as node:
                assert (await joined(node, one, "gpu-1")).pool_kind == kind


class TestNodeControl:
    async def test_a_node_that_controls_its_pool_is_told_its_placements_and_heard(
        self, market, own, sessions
    ):
        async with raw_node(market) as node:
            await joined(node, own, "gpu-1")
            await node.say(CONTROLS)
            desired = await node.hear_until(Desired)
            [placement] = desired.placements
            assert (placement.node, placement.model) == ("gpu-1", own.model_slug)
            seen = Observed(placement_id=placement.placement_id, state="running", replicas=1)
            await node.say(Report(generation=desired.generation, observed=(seen,)))
            await until_state(sessions, own, PlacementState.RUNNING)

    async def test_a_change_is_sent_at_the_next_heartbeat(self, market, own, sessions):
        async with raw_node(market) as node:
            await joined(node, own, "gpu-1")
            await node.say(CONTROLS)
            assert len((await node.hear_until(Desired)).placements) == 1
            async with session_scope(sessions) as session:
                query = select(Placement).where(Placement.revision_id == own.revision_id)
                (await session.scalars(query)).one().desired = False
            await node.say(Heartbeat(clock_ms=1))
            assert (await node.hear_until(Desired)).placements == ()

    async def test_a_node_that_controls_nothing_may_not_report(self, market, own):
        async with raw_node(market) as node:
            await joined(node, own, "gpu-1")
            await node.say(Report(generation=1, observed=()))
            refusal = await node.hear_until(Refuse)
            assert (refusal.reason, "does not control" in refusal.message) == ("protocol", True)

    async def test_a_machine_of_a_house_pool_cannot_take_it_over(self, market, supply):
        """The house pool belongs to several providers: one of them would decide what the others' machines run."""
        async with raw_node(market) as node:
            await joined(node, supply, "gpu-1")
            await node.say(CONTROLS)
            refusal = await node.hear_until(Refuse)
            assert (refusal.reason, "claims to control" in refusal.message) == ("protocol", True)


class TestOneController:
    """Two would undo each other's placements in turn."""

    async def test_the_second_is_refused_by_name_and_takes_over_when_the_first_has_left(self, market, supply):
        async with controller(market, supply, "ctl-1") as first:
            await first.hear_until(Desired)
            async with controller(market, supply, "ctl-2") as second:
                refusal = await second.refusal()
            assert (refusal.reason, refusal.retry) == ("duplicate", True)
            assert "controlled by 'ctl-1' already" in refusal.message
            assert supply.pool_slug in refusal.message
            # The first one did not notice.
            await first.say(Heartbeat(clock_ms=1))
        await until_free(market, supply)
        async with again(market, second) as second:
            await second.prove(role="controller")
            await second.hear_until(Desired)

    async def test_a_newer_link_of_the_same_controller_takes_over_at_once(self, market, supply):
        async with controller(market, supply, "ctl-1") as first:
            await first.hear_until(Desired)
            async with again(market, first) as newer:
                await newer.prove(role="controller")
                await newer.hear_until(Desired)

    async def test_one_that_was_killed_is_replaced_when_its_lease_is_over(self, market, supply, sessions):
        async with controller(market, supply, "ctl-1") as first:
            await first.hear_until(Desired)
            async with session_scope(sessions) as session:
                status = await session.get_one(PoolStatus, supply.pool_id)
                status.held_until = func.clock_timestamp() - timedelta(seconds=1)
            async with controller(market, supply, "ctl-2") as second:
                await second.hear_until(Desired)

    async def test_one_that_controls_nothing_cannot_say_where_the_head_is(self, sessions, supply):
        desk = PoolDesk(sessions=sessions, box=SecretBox([b"k" * 32]))
        async with link_market(sessions, pools=desk) as market, controller(market, supply, "ctl-1") as first:
            await first.hear_until(Desired)
            await first.say(head_at("10.77.0.1"))
            assert (await first.hear_until(PoolGrant)).head == "10.77.0.1:6379"
            async with controller(market, supply, "ctl-2") as second:
                await second.say(head_at("10.77.0.66"))
                assert (await second.refusal()).reason == "duplicate"
            await first.say(head_at("10.77.0.1"))
            assert (await first.hear_until(PoolGrant)).head == "10.77.0.1:6379"
        async with session_scope(sessions) as session:
            addresses = await session.scalars(
                select(PoolMember.address).where(PoolMember.pool_id == supply.pool_id)
            )
            assert set(addresses) == {"10.77.0.1"}

    async def test_of_two_machines_of_a_provider_pool_one_is_told_and_the_other_follows_it(self, market, own):
        async with raw_node(market) as second:
            async with raw_node(market) as first:
                for node, name in ((first, "gpu-1"), (second, "gpu-2")):
                    await joined(node, own, name)
                    await node.say(CONTROLS)
                    if node is first:
                        await first.hear_until(Desired)
                refusal = await second.hear_until(PoolRefusal)
                assert "controlled by 'gpu-1'" in refusal.message
                await first.say(Heartbeat(clock_ms=1))
                assert len((await first.hear_until(Desired)).placements) == 2
                await second.say(Heartbeat(clock_ms=1))
            # Its link held: the second machine serves on, and now it is told.
            await until_free(market, own)
            await second.say(Heartbeat(clock_ms=2))
            assert len((await second.hear(Desired)).placements) == 2


class TestReports:
    async def test_what_a_controller_sees_of_the_cluster_is_kept(self, market, supply, sessions):
        async with controller(market, supply, "ctl-1") as first:
            desired = await first.hear_until(Desired)
            await first.say(
                Report(generation=desired.generation, observed=(), ray_nodes=("a", "head"), unknown=("odd",))
            )
            async with asyncio.timeout(30):
                while True:
                    async with session_scope(sessions) as session:
                        status = await session.get_one(PoolStatus, supply.pool_id)
                    if status.reported_at is not None:
                        break
                    await asyncio.sleep(0.02)
        assert (status.generation, status.ray_nodes) == (desired.generation, ["a", "head"])
        assert status.unknown_applications == ["odd"]


@contextlib.asynccontextmanager
async def controller(market, supply, name):
    """An enrolled controller that has just been welcomed."""
    async with raw_node(market) as node:
        await node.enrol(await supply.join_token(NodeRole.CONTROLLER), name=name)
        await node.prove(role="controller")
        yield node


def head_at(address):
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return PoolAsk(csr=request.public_bytes(Encoding.PEM), role="head", address=address, head_port=6379)


async def until_free(market, supply):
    """The marketplace has noticed that the controller is gone."""
    async with asyncio.timeout(30):
        while True:
            async with session_scope(market.sessions) as session:
                free = PoolStatus.held_until <= func.clock_timestamp()
                query = select(PoolStatus.pool_id).where(PoolStatus.pool_id == supply.pool_id, free)
                if await session.scalar(query) is not None:
                    return
            await asyncio.sleep(0.02)


async def until_state(sessions, supply, state):
    async with asyncio.timeout(30):
        while True:
            async with session_scope(sessions) as session:
                query = select(Placement.state).where(Placement.revision_id == supply.revision_id)
                if list(await session.scalars(query)) == [state]:
                    return
            await asyncio.sleep(0.02)
