"""Who is missed: a blip evicts nobody, a dead node is offline after the grace, and a mass disconnection empties nothing."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import new_id
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.supply.absence import (
    GRACE_S,
    HOLD_S,
    MASS_NODES_MIN,
    SILENCE_S,
    Presence,
    is_mass_disconnection,
    mark_absent,
    mass_disconnection,
)
from raymart_marketplace.supply.life_models import NodeEvent, NodeEventKind
from raymart_marketplace.supply.models import Node, NodeState
from raymart_marketplace.supply.presence import link_up
from support.market import make_node, make_pool, make_provider

A, B, C = new_id(), new_id(), new_id()


class TestMassDisconnection:
    @pytest.mark.parametrize(
        ("providers", "ours"),
        [
            ({}, False),
            # Half of a small market is one machine that was switched off.
            ({A: Presence(1, 1)}, False),
            ({A: Presence(0, MASS_NODES_MIN - 1)}, False),
            # Many, of several providers.
            ({A: Presence(2, 2), B: Presence(2, 2)}, True),
            ({A: Presence(0, 300), B: Presence(0, 200), C: Presence(500, 0)}, True),
            # Many, but few of all.
            ({A: Presence(40, 5), B: Presence(40, 5)}, False),
            # One provider went dark, the others stand.
            ({A: Presence(0, 50), B: Presence(20, 0), C: Presence(20, 0)}, False),
            # The only provider there is: it cannot be told from a fault of ours.
            ({A: Presence(0, 50)}, True),
            ({A: Presence(10, 50)}, True),
        ],
    )
    def test_many_of_several_providers_at_once_is_our_own_fault(self, providers, ours):
        assert is_mass_disconnection(providers) is ours


async def forget_others(session: AsyncSession) -> None:
    """In this transaction, which is rolled back, the market has no links but the test's."""
    await session.execute(update(Node).values(link_id=None, link_lost_at=None, last_seen_at=None))


async def fleet(session: AsyncSession, *, providers: int, nodes: int) -> list[list[UUID]]:
    """Node ids by provider, each with a link."""
    pool, made = await make_pool(session), []
    for _ in range(providers):
        provider = await make_provider(session)
        ids = [(await make_node(session, pool=pool, provider=provider)).id for _ in range(nodes)]
        for node_id in ids:
            await link_up(session, node_id, new_id())
        made.append(ids)
    return made


async def lose(session: AsyncSession, node_ids: list[UUID], *, ago_s: float) -> None:
    moment = func.clock_timestamp() - timedelta(seconds=ago_s)
    await session.execute(
        update(Node)
        .where(Node.id.in_(node_ids))
        .values(link_id=None, link_lost_at=moment, last_seen_at=moment)
    )


async def states(session: AsyncSession, node_ids: list[UUID]) -> set[NodeState]:
    return set(await session.scalars(select(Node.state).where(Node.id.in_(node_ids))))


@pytest.fixture
async def session(sessions: Sessions):
    async with sessions() as session, session.begin() as transaction:
        await forget_others(session)
        yield session
        await transaction.rollback()


class TestMarkAbsent:
    async def test_within_the_grace_nothing_happens_and_after_it_the_node_is_offline(self, session):
        [ids] = await fleet(session, providers=1, nodes=3)
        await lose(session, ids[:1], ago_s=GRACE_S - 5)
        assert await mark_absent(session) == []
        await lose(session, ids[:1], ago_s=GRACE_S + 1)
        assert [node.id for node in await mark_absent(session)] == ids[:1]
        assert await mark_absent(session) == []
        assert await states(session, ids[:1]) == {NodeState.OFFLINE}
        assert await states(session, ids[1:]) == {NodeState.READY}
        [event] = await session.scalars(
            select(NodeEvent).where(NodeEvent.node_id == ids[0], NodeEvent.event == NodeEventKind.LINK_LOST)
        )
        assert "30 s" in event.reason

    async def test_a_node_that_comes_back_is_ready_by_itself(self, session):
        [[node, *_]] = await fleet(session, providers=1, nodes=2)
        await lose(session, [node], ago_s=GRACE_S + 1)
        await mark_absent(session)
        await link_up(session, node, new_id())
        assert await states(session, [node]) == {NodeState.READY}

    async def test_nodes_of_a_process_that_died_are_found_by_their_silence(self, session):
        [ids] = await fleet(session, providers=1, nodes=2)
        silent = func.clock_timestamp() - timedelta(seconds=SILENCE_S + GRACE_S + 1)
        await session.execute(update(Node).where(Node.id == ids[0]).values(last_seen_at=silent))
        assert [node.id for node in await mark_absent(session)] == ids[:1]

    async def test_a_mass_disconnection_marks_nobody_offline(self, session):
        fleets = await fleet(session, providers=2, nodes=4)
        lost = [ids[0] for ids in fleets] + [ids[1] for ids in fleets]
        await lose(session, lost, ago_s=GRACE_S + 60)
        assert await mass_disconnection(session)
        assert await mark_absent(session) == []
        assert await states(session, lost) == {NodeState.READY}

    async def test_those_who_stay_away_when_the_others_are_back_are_offline(self, session):
        fleets = await fleet(session, providers=2, nodes=4)
        lost = [ids[0] for ids in fleets] + [ids[1] for ids in fleets]
        await lose(session, lost, ago_s=GRACE_S + 60)
        await mark_absent(session)
        for node in lost[:3]:
            await link_up(session, node, new_id())
        assert not await mass_disconnection(session)
        assert [node.id for node in await mark_absent(session)] == lost[3:]

    async def test_a_hold_is_not_for_ever(self, session):
        fleets = await fleet(session, providers=2, nodes=4)
        lost = [ids[0] for ids in fleets] + [ids[1] for ids in fleets]
        await lose(session, lost, ago_s=HOLD_S + 1)
        assert {node.id for node in await mark_absent(session)} == set(lost)

    async def test_one_providers_data_centre_may_go_dark(self, session):
        dark, standing = await fleet(session, providers=2, nodes=5)
        await lose(session, dark, ago_s=GRACE_S + 1)
        assert {node.id for node in await mark_absent(session)} == set(dark)
        assert await states(session, standing) == {NodeState.READY}
