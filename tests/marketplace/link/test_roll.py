"""The roll: all links of a process asked for together, and what it does of those that the database does not vouch for."""

import asyncio
import contextlib

import pytest
from sqlalchemy import select, update

from raymart_core.ids import Prefix, new_id, parse
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.link import LinkLimits
from raymart_marketplace.supply.link.roll import RollCall
from raymart_marketplace.supply.models import Node, NodeRole, NodeState, Provider, ProviderState
from raymart_marketplace.supply.refusal import LinkRefused
from raymart_marketplace.supply.service import revoke_node
from support.link_market import link_market, until
from support.market import make_node, make_pool, make_provider
from support.raw_node import live_node


@pytest.fixture
def roll(sessions):
    return RollCall(sessions, recheck_s=0.05, timeout_s=5.0)


async def some_nodes(sessions, count):
    async with session_scope(sessions) as session:
        pool, provider = await make_pool(session), await make_provider(session)
        return [await make_node(session, pool=pool, provider=provider) for _ in range(count)]


async def row(sessions, node_id):
    async with session_scope(sessions) as session:
        return await session.get_one(Node, node_id)


@contextlib.contextmanager
def called(roll, *links):
    """The links on the roll; what they are told."""
    doubted = []
    with contextlib.ExitStack() as stack:
        for node_id, link_id in links:
            stack.enter_context(
                roll.called(node_id, link_id, lambda node_id=node_id: doubted.append(node_id))
            )
        yield doubted


async def linked(roll, nodes):
    links = [(node.id, new_id()) for node in nodes]
    for node_id, link_id in links:
        assert await roll.up(node_id, link_id, qualified=True)
    return links


class TestHello:
    async def test_many_at_once_are_each_answered_with_their_own(self, roll, sessions):
        nodes = await some_nodes(sessions, 5)
        found = await asyncio.gather(*(roll.identity(node.id, NodeRole.NODE) for node in nodes))
        assert [(each.node_id, each.public_key) for each in found] == [
            (node.id, node.public_key) for node in nodes
        ]

    async def test_strangers_wrong_roles_and_revoked_nodes_are_refused_beside_a_good_one(
        self, roll, sessions
    ):
        good, revoked = await some_nodes(sessions, 2)
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=revoked.id)
        found = await asyncio.gather(
            roll.identity(good.id, NodeRole.NODE),
            roll.identity(good.id, NodeRole.CONTROLLER),
            roll.identity(revoked.id, NodeRole.NODE),
            roll.identity(new_id(), NodeRole.NODE),
            return_exceptions=True,
        )
        assert found[0].node_id == good.id
        assert all(isinstance(refusal, LinkRefused) for refusal in found[1:])
        assert [refusal.reason for refusal in found[1:]] == ["unknown_node", "revoked", "unknown_node"]


class TestUpAndLost:
    async def test_many_links_come_and_go_together(self, roll, sessions):
        nodes = await some_nodes(sessions, 4)
        links = {node.id: new_id() for node in nodes}
        up = await asyncio.gather(*(roll.up(*link, qualified=True) for link in links.items()))
        assert up == [True] * 4
        states = [await row(sessions, node.id) for node in nodes]
        assert [(each.state, each.link_id) for each in states] == [
            (NodeState.READY, links[node.id]) for node in nodes
        ]
        await asyncio.gather(*(roll.lost(*link) for link in links.items()))
        assert [(await row(sessions, node.id)).link_id for node in nodes] == [None] * 4

    async def test_one_that_is_not_qualified_does_not_borrow_it_from_its_neighbour(self, roll, sessions):
        one, other = await some_nodes(sessions, 2)
        async with session_scope(sessions) as session:
            new = update(Node).where(Node.id.in_([one.id, other.id]))
            await session.execute(new.values(state=NodeState.ENROLLED, qualified_at=None))
        await asyncio.gather(
            roll.up(one.id, new_id(), qualified=False), roll.up(other.id, new_id(), qualified=True)
        )
        assert (await row(sessions, one.id)).state is NodeState.ENROLLED
        assert (await row(sessions, other.id)).state is NodeState.READY

    async def test_a_revoked_node_is_not_up(self, roll, sessions):
        (node,) = await some_nodes(sessions, 1)
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=node.id)
        assert not await roll.up(node.id, new_id(), qualified=True)

    async def test_of_two_links_lost_at_once_the_present_one_counts_in_either_order(self, roll, sessions):
        for present_first in (True, False):
            (node,) = await some_nodes(sessions, 1)
            ((_, present),) = await linked(roll, [node])
            lost = [present, new_id()] if present_first else [new_id(), present]
            await asyncio.gather(*(roll.lost(node.id, link_id) for link_id in lost))
            assert (await row(sessions, node.id)).link_id is None

    async def test_a_late_word_of_an_older_link_takes_nothing_from_the_newer(self, roll, sessions):
        (node,) = await some_nodes(sessions, 1)
        ((_, present),) = await linked(roll, [node])
        await roll.lost(node.id, new_id())
        assert (await row(sessions, node.id)).link_id == present


class TestCall:
    async def test_live_links_are_marked_seen_and_left_in_peace(self, roll, sessions):
        nodes = await some_nodes(sessions, 3)
        with called(roll, *await linked(roll, nodes)) as doubted:
            before = [(await row(sessions, node.id)).last_seen_at for node in nodes]

            async def all_seen_again():
                return all(
                    [
                        (await row(sessions, node.id)).last_seen_at > seen
                        for node, seen in zip(nodes, before, strict=True)
                    ]
                )

            async with asyncio.timeout(30):
                while not await all_seen_again():
                    await asyncio.sleep(0.01)
        assert doubted == []

    async def test_only_those_that_are_not_vouched_for_are_told(self, roll, sessions):
        good, revoked, superseded = await some_nodes(sessions, 3)
        links = await linked(roll, [good, revoked, superseded])
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=revoked.id)
        await roll.up(superseded.id, new_id(), qualified=True)
        with called(roll, *links) as doubted:
            await until(lambda: {revoked.id, superseded.id} <= set(doubted))
        assert good.id not in doubted

    async def test_a_suspended_provider_is_not_vouched_for(self, roll, sessions):
        (node,) = await some_nodes(sessions, 1)
        with called(roll, *await linked(roll, [node])) as doubted:
            async with session_scope(sessions) as session:
                await session.execute(
                    update(Provider)
                    .where(
                        Provider.id == select(Node.provider_id).where(Node.id == node.id).scalar_subquery()
                    )
                    .values(state=ProviderState.SUSPENDED)
                )
            await until(lambda: doubted)

    async def test_who_has_left_is_not_called(self, roll, sessions):
        (node,) = await some_nodes(sessions, 1)
        (link,) = await linked(roll, [node])
        with called(roll, link):
            pass
        assert roll._called == {}

    async def test_the_end_of_an_older_link_leaves_the_newer_on_the_roll(self, roll):
        node_id, newer = new_id(), new_id()
        older = roll.called(node_id, new_id(), lambda: None)
        older.__enter__()
        with roll.called(node_id, newer, lambda: None):
            older.__exit__(None, None, None)
            assert roll._called[node_id].link_id == newer
        assert roll._called == {}


class TestOnALiveLink:
    async def test_a_node_that_nobody_tells_of_its_revocation_is_cut_by_the_roll(self, sessions, supply):
        async with (
            link_market(sessions, limits=LinkLimits(recheck_s=0.1)) as market,
            live_node(market, supply) as node,
        ):
            async with session_scope(sessions) as session:
                await revoke_node(session, node_id=parse(Prefix.NODE, node.node_id))
            assert (await node.refusal()).reason == "revoked"
