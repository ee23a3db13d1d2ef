"""Links as the nodes' rows tell of them: which one is up, and what a lost one changes."""

import pytest
from sqlalchemy import select, update

from raymart_core.ids import new_id
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.life_models import NodeEvent, NodeEventKind
from raymart_marketplace.supply.models import Node, NodeState, Provider, ProviderState
from raymart_marketplace.supply.presence import hold_link, link_up, links_doubted, links_lost, links_seen
from raymart_marketplace.supply.refusal import LinkRefused
from raymart_marketplace.supply.service import revoke_node
from support.market import make_node, make_pool, make_provider


async def a_node(sessions: Sessions, state: NodeState = NodeState.ENROLLED) -> Node:
    async with session_scope(sessions) as session:
        node = await make_node(session, pool=await make_pool(session), provider=await make_provider(session))
        await session.execute(update(Node).where(Node.id == node.id).values(state=state))
    return node


async def row(sessions: Sessions, node: Node) -> Node:
    async with session_scope(sessions) as session:
        return await session.get_one(Node, node.id)


async def events(sessions: Sessions, node: Node) -> list[NodeEventKind]:
    async with session_scope(sessions) as session:
        found = select(NodeEvent.event).where(NodeEvent.node_id == node.id).order_by(NodeEvent.id)
        return list(await session.scalars(found))[1:]


class TestLinkUp:
    @pytest.mark.parametrize(
        ("before", "qualified", "after"),
        [
            (NodeState.ENROLLED, True, NodeState.READY),
            (NodeState.ENROLLED, False, NodeState.ENROLLED),
            (NodeState.OFFLINE, True, NodeState.READY),
            (NodeState.READY, True, NodeState.READY),
            (NodeState.DRAINING, True, NodeState.DRAINING),
        ],
    )
    async def test_who_was_missed_or_is_new_goes_where_it_belongs(
        self, sessions: Sessions, before, qualified, after
    ):
        node, link = await a_node(sessions, before), new_id()
        async with session_scope(sessions) as session:
            await link_up(session, node.id, link, qualified=qualified)
        now = await row(sessions, node)
        assert (now.state, now.link_id, now.link_lost_at) == (after, link, None)
        assert (now.last_seen_at is not None, now.qualified_at is not None) == (True, qualified)

    async def test_a_qualified_node_stays_so_where_benchmarks_are_asked_for(self, sessions: Sessions):
        node = await a_node(sessions)
        for qualified in (True, False):
            async with session_scope(sessions) as session:
                await link_up(session, node.id, new_id(), qualified=qualified)
        assert (await row(sessions, node)).qualified_at is not None

    async def test_a_blip_leaves_no_event(self, sessions: Sessions):
        node = await a_node(sessions)
        for _ in range(3):
            link = new_id()
            async with session_scope(sessions) as session:
                await link_up(session, node.id, link)
            async with session_scope(sessions) as session:
                await links_lost(session, {node.id: link})
        assert await events(sessions, node) == [NodeEventKind.LINKED]
        now = await row(sessions, node)
        assert (now.state, now.link_id) == (NodeState.READY, None)
        assert now.link_lost_at is not None

    async def test_a_revoked_node_has_no_link(self, sessions: Sessions):
        node = await a_node(sessions)
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=node.id)
            await link_up(session, node.id, new_id())
        now = await row(sessions, node)
        assert (now.state, now.link_id, now.last_seen_at) == (NodeState.RETIRED, None, None)


class TestLinksSeen:
    async def test_only_the_present_link_is_seen(self, sessions: Sessions):
        node, other, link = await a_node(sessions), await a_node(sessions), new_id()
        async with session_scope(sessions) as session:
            await link_up(session, node.id, link)
            await link_up(session, other.id, new_id())
            assert set(await links_seen(session, {node.id: link, other.id: link})) == {node.id}
            assert not await links_seen(session, {})


class TestLinksDoubted:
    async def test_a_present_link_is_seen_and_others_are_doubted(self, sessions: Sessions):
        node, other, revoked, link = (
            await a_node(sessions),
            await a_node(sessions),
            await a_node(sessions),
            new_id(),
        )
        asked = {node.id: link, other.id: link, revoked.id: link, new_id(): link}
        async with session_scope(sessions) as session:
            await link_up(session, node.id, link)
            await link_up(session, other.id, new_id())
            await link_up(session, revoked.id, link)
            await revoke_node(session, node_id=revoked.id)
        before = (await row(sessions, node)).last_seen_at, (await row(sessions, other)).last_seen_at
        async with session_scope(sessions) as session:
            assert set(await links_doubted(session, asked)) == set(asked) - {node.id}
        assert (await row(sessions, node)).last_seen_at > before[0]
        assert (await row(sessions, other)).last_seen_at == before[1]

    @pytest.mark.parametrize("state", ProviderState)
    async def test_links_of_a_provider_that_is_not_welcome_are_doubted(
        self, sessions: Sessions, state: ProviderState
    ):
        node, link = await a_node(sessions), new_id()
        async with session_scope(sessions) as session:
            await link_up(session, node.id, link)
            await session.execute(update(Provider).where(Provider.id == node.provider_id).values(state=state))
            doubted = await links_doubted(session, {node.id: link})
        assert bool(doubted) is (state not in (ProviderState.APPLIED, ProviderState.ACTIVE))


class TestLinksLost:
    async def test_a_lost_link_does_not_take_a_newer_one_with_it(self, sessions: Sessions):
        node, older, newer = await a_node(sessions), new_id(), new_id()
        async with session_scope(sessions) as session:
            await link_up(session, node.id, older)
            await link_up(session, node.id, newer)
            await links_lost(session, {node.id: older})
        assert (await row(sessions, node)).link_id == newer


class TestHoldLink:
    async def test_the_older_link_of_another_process_is_superseded(self, sessions: Sessions):
        node, older, newer = await a_node(sessions), new_id(), new_id()
        async with session_scope(sessions) as session:
            await hold_link(session, node.id, older, first=True)
            await hold_link(session, node.id, newer, first=True)
            await hold_link(session, node.id, newer, first=False)
            with pytest.raises(LinkRefused) as refusal:
                await hold_link(session, node.id, older, first=False)
        assert (refusal.value.reason, refusal.value.retry) == ("superseded", False)

    async def test_a_link_that_was_taken_for_gone_is_up_again(self, sessions: Sessions):
        node, link = await a_node(sessions), new_id()
        async with session_scope(sessions) as session:
            await hold_link(session, node.id, link, first=True)
            await links_lost(session, {node.id: link})
            await hold_link(session, node.id, link, first=False)
        assert (await row(sessions, node)).link_id == link
