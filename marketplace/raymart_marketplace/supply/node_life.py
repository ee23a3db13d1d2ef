"""The life of a node: its states, what may happen to it, and the one way by which its state changes.

    enrolled -> benchmarking -> ready <-> draining;   offline while its link is gone;   retired at the end

`TRANSITIONS` is the whole of the rule. `change` and `change_many` are the only writers of `node.state` after enrolment,
and each change leaves a row in `node_event` that says who, from what, to what and why. A state says what the marketplace
has decided of a node, not whether its link is up at this moment: routing sees links at once and without this module, so
a link that comes back within the grace of `supply.absence` changes no state and leaves no event.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.audit import Actor, ActorKind, current_act
from raymart_marketplace.supply.life_models import NodeEvent, NodeEventKind
from raymart_marketplace.supply.models import Node, NodeState

log = structlog.get_logger()

REASON_CHARACTERS_MAX = 500
SYSTEM: Final = Actor(kind=ActorKind.SYSTEM)
"""The marketplace itself."""

_K, _S = NodeEventKind, NodeState
_HOME: Final = None
"""Where a node belongs that nobody holds back, see `home`."""

TRANSITIONS: Mapping[NodeEventKind, Mapping[NodeState, NodeState | None]] = {
    _K.LINKED: {_S.ENROLLED: _HOME, _S.OFFLINE: _HOME},
    _K.LINK_LOST: {_S.ENROLLED: _S.OFFLINE, _S.BENCHMARKING: _S.OFFLINE, _S.READY: _S.OFFLINE},
    _K.BENCHMARK_STARTED: {
        _S.ENROLLED: _S.BENCHMARKING,
        _S.OFFLINE: _S.BENCHMARKING,
        _S.READY: _S.BENCHMARKING,
    },
    # A node that is drained meanwhile stays drained; what was measured counts once it is back.
    _K.BENCHMARK_PASSED: {_S.BENCHMARKING: _S.READY, _S.DRAINING: _S.DRAINING},
    _K.BENCHMARK_FAILED: {_S.BENCHMARKING: _S.ENROLLED, _S.DRAINING: _S.DRAINING},
    _K.DRAINED: {
        _S.ENROLLED: _S.DRAINING,
        _S.BENCHMARKING: _S.DRAINING,
        _S.READY: _S.DRAINING,
        _S.OFFLINE: _S.DRAINING,
        _S.DRAINING: _S.DRAINING,
    },
    _K.RESUMED: {_S.DRAINING: _HOME},
    _K.RETIRED: {state: _S.RETIRED for state in _S if state is not _S.RETIRED},
}
"""What may happen in which state, and the state it leads to. What is left out may not happen; nothing follows RETIRED."""


def home(*, qualified: bool, linked: bool) -> NodeState:
    """Where a node belongs that nobody holds back: ready once it is qualified, as long as its link is up."""
    if not linked:
        return NodeState.OFFLINE
    return NodeState.READY if qualified else NodeState.ENROLLED


def next_state(state: NodeState, event: NodeEventKind, *, qualified: bool, linked: bool) -> NodeState | None:
    """The state after `event`; None where it may not happen."""
    targets = TRANSITIONS.get(event, {})
    if state not in targets:
        return None
    return targets[state] or home(qualified=qualified, linked=linked)


def who() -> Actor:
    """Whoever acts at this moment; the marketplace itself where nobody does."""
    act = current_act()
    return act.actor if act is not None else SYSTEM


async def living_node(session: AsyncSession, node_id: UUID) -> Node:
    """The node, its row locked. Raises: NotFound, Conflict when it is retired."""
    node = await _locked(session, node_id)
    if node.state is NodeState.RETIRED:
        raise Conflict(f"node {node.name!r} is retired; enrol the machine anew", param="node_id")
    return node


async def change(
    session: AsyncSession, node_id: UUID, event: NodeEventKind, *, reason: str = "", by: Actor | None = None
) -> Node:
    """Let `event` happen to the node, and write it down. `by` is whoever acts at this moment unless it is given.

    Locks the node's row. Raises: NotFound, Conflict when `event` may not happen in the node's state.
    """
    node = await _locked(session, node_id)
    row = _apply(node, event, reason=reason, by=by or who())
    if row is None:
        raise Conflict(f"node {node.name!r} is {node.state.value}; {event.value} may not happen to it now")
    session.add(row)
    await session.flush()
    return node


async def change_many(
    session: AsyncSession,
    node_ids: Collection[UUID],
    event: NodeEventKind,
    *,
    reason: str = "",
    by: Actor | None = None,
) -> Sequence[Node]:
    """Let `event` happen to those of the nodes that it may happen to; returns them. Locks their rows in id order."""
    if not node_ids:
        return []
    statement = (
        select(Node)
        .where(Node.id.in_(node_ids), Node.state.in_(TRANSITIONS[event]))
        .order_by(Node.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    actor = by or who()
    nodes = (await session.scalars(statement)).all()
    rows = [row for node in nodes if (row := _apply(node, event, reason=reason, by=actor)) is not None]
    session.add_all(rows)
    await session.flush()
    return nodes


async def note(
    session: AsyncSession, node: Node, event: NodeEventKind, *, reason: str, by: Actor | None = None
) -> None:
    """Write down what happened to the node without a change of its state, such as a new key."""
    assert event not in TRANSITIONS, "a change of state goes by `change`"
    session.add(_row(node, event, node.state, reason, by or who()))
    await session.flush()


def _apply(node: Node, event: NodeEventKind, *, reason: str, by: Actor) -> NodeEvent | None:
    """Change `node` in memory; the row for its history, None where `event` may not happen."""
    linked, qualified = node.link_id is not None, node.qualified_at is not None
    after = next_state(node.state, event, qualified=qualified, linked=linked)
    if after is None:
        return None
    row = _row(node, event, after, reason, by)
    log.info(
        "node.changed",
        node=node.name,
        event_=event.value,
        before=node.state.value,
        after=after.value,
        reason=reason,
    )
    node.state = after
    match event:
        case NodeEventKind.BENCHMARK_PASSED:
            node.qualified_at = func.clock_timestamp()
        case NodeEventKind.BENCHMARK_STARTED | NodeEventKind.BENCHMARK_FAILED:
            node.qualified_at = None
        case NodeEventKind.RESUMED:
            node.drain_until = None
        case NodeEventKind.RETIRED:
            node.link_id = None
    return row


def _row(node: Node, event: NodeEventKind, after: NodeState, reason: str, by: Actor) -> NodeEvent:
    return NodeEvent(
        node_id=node.id,
        event=event,
        from_state=node.state,
        to_state=after,
        # PostgreSQL's text holds no NUL, and some reasons are a node's own words.
        reason=reason.replace("\0", "")[:REASON_CHARACTERS_MAX],
        actor_kind=by.kind,
        actor_id=by.id,
    )


async def _locked(session: AsyncSession, node_id: UUID) -> Node:
    node = await session.get(Node, node_id, with_for_update={"key_share": True}, populate_existing=True)
    if node is None:
        raise NotFound(f"there is no node {show(Prefix.NODE, node_id)!r}", param="node_id")
    return node
