"""Draining with a notice, and maintenance windows that start and end by themselves."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply import draining
from raymart_marketplace.supply.draining import (
    cancel_maintenance,
    drain_node,
    follow_windows,
    plan_maintenance,
    resume_node,
    windows_of,
)
from raymart_marketplace.supply.life_models import (
    MaintenanceState,
    MaintenanceWindow,
    NodeEvent,
    NodeEventKind,
)
from raymart_marketplace.supply.models import Node, NodeState
from raymart_marketplace.supply.presence import link_up
from raymart_marketplace.supply.service import revoke_node
from support.market import make_node, make_pool, make_provider


@pytest.fixture
async def node(sessions: Sessions) -> Node:
    """Ready, and linked."""
    async with session_scope(sessions) as session:
        made = await make_node(session, pool=await make_pool(session), provider=await make_provider(session))
        await link_up(session, made.id, new_id())
    return made


def hours(count: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=count)


async def row(sessions: Sessions, node: Node) -> Node:
    async with session_scope(sessions) as session:
        return await session.get_one(Node, node.id)


async def plan(sessions: Sessions, node: Node, starts: float, ends: float, **values) -> MaintenanceWindow:
    async with session_scope(sessions) as session:
        return await plan_maintenance(
            session, node_id=node.id, starts_at=hours(starts), ends_at=hours(ends), **values
        )


async def move(sessions: Sessions, window: MaintenanceWindow, starts: float, ends: float) -> None:
    """Let time pass."""
    async with session_scope(sessions) as session:
        statement = update(MaintenanceWindow).where(MaintenanceWindow.id == window.id)
        await session.execute(statement.values(starts_at=hours(starts), ends_at=hours(ends)))


async def follow(sessions: Sessions) -> None:
    async with session_scope(sessions) as session:
        await follow_windows(session)


class TestDrainNode:
    async def test_the_notice_is_kept_and_ends_with_the_drain(self, sessions: Sessions, node: Node):
        async with session_scope(sessions) as session:
            drained = await drain_node(session, node_id=node.id, notice_s=600, reason="new disks")
            assert drained.state is NodeState.DRAINING
            assert drained.drain_until is not None
            assert timedelta(seconds=590) < drained.drain_until - datetime.now(UTC) < timedelta(seconds=610)
        async with session_scope(sessions) as session:
            resumed = await resume_node(session, node_id=node.id)
        assert (resumed.state, resumed.drain_until) == (NodeState.READY, None)

    async def test_a_repeat_changes_nothing_and_leaves_one_line(self, sessions: Sessions, node: Node):
        for _ in range(2):
            async with session_scope(sessions) as session:
                await drain_node(session, node_id=node.id)
        async with session_scope(sessions) as session:
            lines = await session.scalars(
                select(NodeEvent).where(
                    NodeEvent.node_id == node.id, NodeEvent.event == NodeEventKind.DRAINED
                )
            )
            assert len(lines.all()) == 1

    @pytest.mark.parametrize("notice_s", [-1, 86_401])
    async def test_an_absurd_notice_is_refused(self, sessions: Sessions, node: Node, notice_s):
        async with session_scope(sessions) as session:
            with pytest.raises(InvalidRequest, match="86400"):
                await drain_node(session, node_id=node.id, notice_s=notice_s)

    async def test_a_node_that_is_away_is_offline_when_resumed(self, sessions: Sessions, node: Node):
        async with session_scope(sessions) as session:
            await session.execute(update(Node).where(Node.id == node.id).values(link_id=None))
            await drain_node(session, node_id=node.id)
            assert (await resume_node(session, node_id=node.id)).state is NodeState.OFFLINE

    async def test_a_retired_node_is_a_conflict(self, sessions: Sessions, node: Node):
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=node.id)
            for act in (drain_node, resume_node):
                with pytest.raises(Conflict, match="retired"):
                    await act(session, node_id=node.id)


class TestMaintenance:
    async def test_a_window_starts_its_notice_before_and_ends_by_itself(self, sessions: Sessions, node: Node):
        window = await plan(sessions, node, 1, 2, notice_s=600, reason="power")
        await follow(sessions)
        assert (await row(sessions, node)).state is NodeState.READY
        await move(sessions, window, 0.1, 1)
        await follow(sessions)
        now = await row(sessions, node)
        assert (now.state, now.maintenance_id) == (NodeState.DRAINING, window.id)
        assert now.drain_until is not None
        await move(sessions, window, -1, -0.01)
        await follow(sessions)
        now = await row(sessions, node)
        assert (now.state, now.maintenance_id, now.drain_until) == (NodeState.READY, None, None)
        async with session_scope(sessions) as session:
            reasons = await session.scalars(
                select(NodeEvent.reason)
                .where(NodeEvent.node_id == node.id, NodeEvent.reason.contains("maintenance"))
                .order_by(NodeEvent.id)
            )
            assert reasons.all() == ["maintenance: power", "its maintenance is over"]
            assert await windows_of(session, node.id) == []

    async def test_who_drained_by_hand_resumes_by_hand(self, sessions: Sessions, node: Node):
        window = await plan(sessions, node, 1, 2)
        await move(sessions, window, -0.1, 1)
        await follow(sessions)
        async with session_scope(sessions) as session:
            await drain_node(session, node_id=node.id, reason="it is worse than we thought")
        await move(sessions, window, -1, -0.01)
        await follow(sessions)
        assert (await row(sessions, node)).state is NodeState.DRAINING

    async def test_a_node_that_drains_already_is_not_resumed_by_the_window(
        self, sessions: Sessions, node: Node
    ):
        async with session_scope(sessions) as session:
            await drain_node(session, node_id=node.id)
        window = await plan(sessions, node, 1, 2)
        for starts, ends in ((-0.1, 1), (-1, -0.01)):
            await move(sessions, window, starts, ends)
            await follow(sessions)
            assert (await row(sessions, node)).state is NodeState.DRAINING

    async def test_a_window_that_nobody_followed_in_time_drains_nothing(self, sessions: Sessions, node: Node):
        window = await plan(sessions, node, 1, 2)
        await move(sessions, window, -2, -1)
        await follow(sessions)
        assert (await row(sessions, node)).state is NodeState.READY
        async with session_scope(sessions) as session:
            assert (await session.get_one(MaintenanceWindow, window.id)).state is MaintenanceState.ENDED

    async def test_cancelling_one_that_is_under_way_resumes_the_node(self, sessions: Sessions, node: Node):
        window = await plan(sessions, node, 1, 2)
        await move(sessions, window, -0.1, 1)
        await follow(sessions)
        for _ in range(2):
            async with session_scope(sessions) as session:
                cancelled = await cancel_maintenance(session, node_id=node.id, window_id=window.id)
            assert cancelled.state is MaintenanceState.CANCELLED
        assert (await row(sessions, node)).state is NodeState.READY

    async def test_windows_of_a_node_do_not_overlap(self, sessions: Sessions, node: Node):
        await plan(sessions, node, 1, 2)
        await plan(sessions, node, 3, 4)
        with pytest.raises(Conflict, match="already"):
            await plan(sessions, node, 1.5, 3.5)

    @pytest.mark.parametrize(
        ("starts", "ends", "words"),
        [
            (-2, -1, "is over"),
            (2, 1, "before it starts"),
            (24 * 91, 24 * 92, "90 days"),
            (1, 24 * 31, "30 days"),
        ],
    )
    async def test_times_that_cannot_be_meant_are_refused(
        self, sessions: Sessions, node: Node, starts, ends, words
    ):
        with pytest.raises(InvalidRequest, match=words):
            await plan(sessions, node, starts, ends)

    async def test_a_node_has_only_so_many(self, sessions: Sessions, node: Node, monkeypatch):
        monkeypatch.setattr(draining, "WINDOWS_MAX", 1)
        await plan(sessions, node, 1, 2)
        with pytest.raises(Conflict, match="cancel one"):
            await plan(sessions, node, 3, 4)

    async def test_a_window_of_a_node_retired_meanwhile_just_ends(self, sessions: Sessions, node: Node):
        window = await plan(sessions, node, 1, 2)
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=node.id)
        for starts, ends in ((-0.1, 1), (-1, -0.01)):
            await move(sessions, window, starts, ends)
            await follow(sessions)
        assert (await row(sessions, node)).state is NodeState.RETIRED

    async def test_an_unknown_window_is_not_found(self, sessions: Sessions, node: Node):
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound, match="mw_"):
                await cancel_maintenance(session, node_id=node.id, window_id=new_id())
