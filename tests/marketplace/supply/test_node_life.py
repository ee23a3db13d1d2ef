"""The states of a node: what may happen in which, and that each change is written down."""

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from raymart_core.errors import Conflict, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.audit import Act, Actor, ActorKind, acting
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.life_models import NodeEvent, NodeEventKind
from raymart_marketplace.supply.models import Node, NodeState
from raymart_marketplace.supply.node_life import (
    REASON_CHARACTERS_MAX,
    TRANSITIONS,
    change,
    change_many,
    home,
    next_state,
    note,
)
from support.market import make_node, make_pool, make_provider

K, S = NodeEventKind, NodeState


async def a_node(sessions: Sessions, state: NodeState = S.ENROLLED, **values) -> Node:
    async with session_scope(sessions) as session:
        node = await make_node(session, pool=await make_pool(session), provider=await make_provider(session))
        await session.execute(update(Node).where(Node.id == node.id).values(state=state, **values))
    return node


async def history(sessions: Sessions, node: Node) -> list[NodeEvent]:
    async with session_scope(sessions) as session:
        found = await session.scalars(
            select(NodeEvent).where(NodeEvent.node_id == node.id).order_by(NodeEvent.id)
        )
        return list(found)


class TestNextState:
    @pytest.mark.parametrize(
        ("state", "event", "after"),
        [
            (S.ENROLLED, K.BENCHMARK_STARTED, S.BENCHMARKING),
            (S.BENCHMARKING, K.BENCHMARK_PASSED, S.READY),
            (S.BENCHMARKING, K.BENCHMARK_FAILED, S.ENROLLED),
            (S.READY, K.BENCHMARK_STARTED, S.BENCHMARKING),
            (S.READY, K.DRAINED, S.DRAINING),
            (S.DRAINING, K.BENCHMARK_PASSED, S.DRAINING),
            (S.DRAINING, K.DRAINED, S.DRAINING),
            (S.READY, K.LINK_LOST, S.OFFLINE),
            (S.BENCHMARKING, K.LINK_LOST, S.OFFLINE),
            (S.OFFLINE, K.DRAINED, S.DRAINING),
            *((state, K.RETIRED, S.RETIRED) for state in S if state is not S.RETIRED),
        ],
    )
    def test_allowed_events_lead_where_the_table_says(self, state, event, after):
        assert next_state(state, event, qualified=True, linked=True) is after

    @pytest.mark.parametrize(
        ("state", "event"),
        [
            *((S.RETIRED, event) for event in K),
            (S.ENROLLED, K.BENCHMARK_PASSED),
            (S.READY, K.BENCHMARK_PASSED),
            (S.OFFLINE, K.BENCHMARK_PASSED),
            (S.DRAINING, K.BENCHMARK_STARTED),
            (S.READY, K.RESUMED),
            (S.DRAINING, K.LINK_LOST),
            (S.DRAINING, K.LINKED),
            (S.READY, K.LINKED),
            (S.READY, K.KEY_ROTATED),
        ],
    )
    def test_what_the_table_leaves_out_may_not_happen(self, state, event):
        assert next_state(state, event, qualified=True, linked=True) is None

    @pytest.mark.parametrize("event", [K.LINKED, K.RESUMED])
    @pytest.mark.parametrize(
        ("qualified", "linked", "after"),
        [
            (True, True, S.READY),
            (False, True, S.ENROLLED),
            (True, False, S.OFFLINE),
            (False, False, S.OFFLINE),
        ],
    )
    def test_whoever_nobody_holds_back_goes_home(self, event, qualified, linked, after):
        state = S.OFFLINE if event is K.LINKED else S.DRAINING
        assert next_state(state, event, qualified=qualified, linked=linked) is after
        assert home(qualified=qualified, linked=linked) is after

    def test_only_a_passed_benchmark_or_home_leads_to_ready(self):
        ways = {
            (event, state)
            for event, targets in TRANSITIONS.items()
            for state in targets
            if targets[state] is S.READY
        }
        assert ways == {(K.BENCHMARK_PASSED, S.BENCHMARKING)}

    def test_every_state_can_be_reached_and_left(self):
        reached = {target for targets in TRANSITIONS.values() for target in targets.values()}
        assert reached | {S.ENROLLED} >= set(S) - {S.ENROLLED}
        assert {state for targets in TRANSITIONS.values() for state in targets} == set(S) - {S.RETIRED}


class TestChange:
    async def test_a_change_says_who_from_what_to_what_and_why(self, sessions: Sessions):
        node, user = await a_node(sessions, S.READY), new_id()
        actor = Actor(kind=ActorKind.USER, id=user)
        async with session_scope(sessions) as session:
            with acting(Act(action="drainNode", actor=actor)):
                changed = await change(session, node.id, K.DRAINED, reason="new power supply")
            assert changed.state is S.DRAINING
        last = (await history(sessions, node))[-1]
        assert (last.event, last.from_state, last.to_state) == (K.DRAINED, S.READY, S.DRAINING)
        assert (last.reason, last.actor_kind, last.actor_id) == ("new power supply", ActorKind.USER, user)

    async def test_enrolment_is_the_first_line(self, sessions: Sessions):
        node = await a_node(sessions)
        [first] = await history(sessions, node)
        assert (first.event, first.actor_kind, first.actor_id) == (K.ENROLLED, ActorKind.NODE, node.id)

    async def test_what_may_not_happen_is_refused_and_leaves_nothing(self, sessions: Sessions):
        node = await a_node(sessions, S.READY)
        async with session_scope(sessions) as session:
            with pytest.raises(Conflict, match="ready; benchmark_passed may not happen"):
                await change(session, node.id, K.BENCHMARK_PASSED)
        assert [line.event for line in await history(sessions, node)] == [K.ENROLLED]

    async def test_unknown_node_is_not_found(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound, match="node_"):
                await change(session, new_id(), K.DRAINED)

    async def test_a_benchmark_decides_whether_a_node_is_qualified(self, sessions: Sessions):
        node = await a_node(sessions, link_id=new_id())
        seen = []
        for event in (
            K.BENCHMARK_STARTED, K.BENCHMARK_PASSED, K.BENCHMARK_STARTED, K.BENCHMARK_FAILED, K.DRAINED, K.RESUMED,
        ):  # fmt: skip
            async with session_scope(sessions) as session:
                await change(session, node.id, event)
            async with session_scope(sessions) as session:
                row = await session.get_one(Node, node.id)
                seen.append((row.state, row.qualified_at is not None))
        assert seen == [
            (S.BENCHMARKING, False), (S.READY, True), (S.BENCHMARKING, False), (S.ENROLLED, False),
            (S.DRAINING, False), (S.ENROLLED, False),
        ]  # fmt: skip

    async def test_a_nodes_own_words_are_cut_to_what_can_be_kept(self, sessions: Sessions):
        node = await a_node(sessions, S.READY)
        async with session_scope(sessions) as session:
            await change(session, node.id, K.DRAINED, reason="\0" + "x" * 10_000)
        assert (await history(sessions, node))[-1].reason == "x" * REASON_CHARACTERS_MAX

    async def test_two_at_once_make_one_change_and_one_line(self, sessions: Sessions):
        node = await a_node(sessions, S.DRAINING)
        async with session_scope(sessions) as first:
            await change(first, node.id, K.RESUMED)
            async with session_scope(sessions) as second:
                await second.execute(text("set local lock_timeout = '50ms'"))
                with pytest.raises(DBAPIError, match="lock timeout"):
                    await change(second, node.id, K.RESUMED)
        async with session_scope(sessions) as session:
            with pytest.raises(Conflict):
                await change(session, node.id, K.RESUMED)
        assert [line.event for line in await history(sessions, node)] == [K.ENROLLED, K.RESUMED]


class TestChangeMany:
    async def test_those_that_it_may_not_happen_to_are_left_alone(self, sessions: Sessions):
        ready, draining = await a_node(sessions, S.READY), await a_node(sessions, S.DRAINING)
        async with session_scope(sessions) as session:
            changed = await change_many(
                session, [ready.id, draining.id, new_id()], K.LINK_LOST, reason="silent"
            )
            assert [node.id for node in changed] == [ready.id]
        assert [line.event for line in await history(sessions, ready)] == [K.ENROLLED, K.LINK_LOST]
        assert [line.event for line in await history(sessions, draining)] == [K.ENROLLED]

    async def test_nobody_is_nothing(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            assert await change_many(session, [], K.LINK_LOST) == []


class TestNote:
    async def test_a_note_changes_no_state(self, sessions: Sessions):
        node = await a_node(sessions, S.READY)
        async with session_scope(sessions) as session:
            row = await session.get_one(Node, node.id)
            await note(session, row, K.KEY_ROTATED, reason="as planned")
        last = (await history(sessions, node))[-1]
        assert (last.event, last.from_state, last.to_state) == (K.KEY_ROTATED, S.READY, S.READY)


class TestDatabase:
    async def test_a_retired_node_cannot_be_revived_by_any_statement(self, sessions: Sessions):
        node = await a_node(sessions, S.RETIRED)
        async with session_scope(sessions) as session:
            with pytest.raises(DBAPIError, match="stays retired"):
                await session.execute(update(Node).where(Node.id == node.id).values(state=S.READY))
            await session.rollback()

    async def test_history_is_not_rewritten(self, sessions: Sessions):
        node = await a_node(sessions)
        for values in ({"to_state": S.READY}, {"reason": "another"}):
            async with session_scope(sessions) as session:
                with pytest.raises(DBAPIError, match="stays written down"):
                    await session.execute(
                        update(NodeEvent).where(NodeEvent.node_id == node.id).values(values)
                    )
                await session.rollback()
