"""Draining and resuming: by hand, by the machine itself, and for maintenance windows that start and end by themselves.

A draining node gets no new request from the commit on. What runs there goes on: until the notice is over the marketplace
asks nobody to cut it, and the node's agent waits for it that long.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.audit import Actor
from raymart_marketplace.supply.life_models import MaintenanceState, MaintenanceWindow, NodeEventKind
from raymart_marketplace.supply.models import Node, NodeState
from raymart_marketplace.supply.node_life import REASON_CHARACTERS_MAX, SYSTEM, change, living_node

NOTICE_S_MAX = 86_400
WINDOWS_MAX = 50
"""Windows of one node that are still to come or under way."""
AHEAD = timedelta(days=90)
LENGTH_MAX = timedelta(days=30)

_STANDING = (MaintenanceState.PLANNED, MaintenanceState.STARTED)


async def drain_node(
    session: AsyncSession, *, node_id: UUID, notice_s: float = 0, reason: str = "", by: Actor | None = None
) -> Node:
    """Send the node no new requests, until `resume_node`; what runs there may go on for `notice_s` seconds (0: until it ends).

    A repeat replaces the notice and takes the node out of a maintenance window's hands. Raises: InvalidRequest,
    NotFound, Conflict when the node is retired.
    """
    _check_notice(notice_s)
    node = await living_node(session, node_id)
    was_draining = node.state is NodeState.DRAINING
    if was_draining and not notice_s and node.maintenance_id is None:
        return node
    return await _drain(session, node, notice_s=notice_s, reason=reason, by=by, window=None)


async def resume_node(
    session: AsyncSession, *, node_id: UUID, reason: str = "", by: Actor | None = None
) -> Node:
    """Send a drained node requests again, as soon as its link is up. A repeat is a no-op. Raises: NotFound, Conflict."""
    node = await living_node(session, node_id)
    if node.state is not NodeState.DRAINING:
        return node
    await change(session, node_id, NodeEventKind.RESUMED, reason=reason, by=by)
    node.maintenance_id = None
    await session.flush()
    return node


async def plan_maintenance(
    session: AsyncSession,
    *,
    node_id: UUID,
    starts_at: datetime,
    ends_at: datetime,
    notice_s: int = 0,
    reason: str = "",
    user_id: UUID | None = None,
) -> MaintenanceWindow:
    """Take the node out of the market from `starts_at` to `ends_at`; new requests end `notice_s` seconds before.

    Locks the node's row. Raises: InvalidRequest for times that are over, too far or too long, NotFound, Conflict when
    the node is retired, has another window then, or has `WINDOWS_MAX` of them.
    """
    _check_notice(notice_s)
    node = await living_node(session, node_id)
    now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    _check_times(now, starts_at, ends_at)
    standing = (await session.scalars(_standing_of(node_id))).all()
    if len(standing) >= WINDOWS_MAX:
        raise Conflict(
            f"node {node.name!r} has {len(standing)} maintenance windows to come; cancel one first"
        )
    for window in standing:
        if window.starts_at < ends_at and starts_at < window.ends_at:
            raise Conflict(
                f"node {node.name!r} has a maintenance window from {window.starts_at.isoformat()} to"
                f" {window.ends_at.isoformat()} already; cancel it, or plan another time",
                param="starts_at",
            )
    planned = MaintenanceWindow(
        node_id=node_id,
        starts_at=starts_at,
        ends_at=ends_at,
        notice_s=notice_s,
        reason=_checked_reason(reason),
        state=MaintenanceState.PLANNED,
        created_by=user_id,
    )
    session.add(planned)
    await session.flush()
    return planned


async def cancel_maintenance(session: AsyncSession, *, node_id: UUID, window_id: UUID) -> MaintenanceWindow:
    """Cancel a window that is planned, or end one that is under way. A repeat is a no-op.

    Raises: NotFound when the node has no such window.
    """
    of_node = select(MaintenanceWindow.id).where(
        MaintenanceWindow.id == window_id, MaintenanceWindow.node_id == node_id
    )
    if await session.scalar(of_node) is None:
        raise NotFound(
            f"the node has no maintenance window {show(Prefix.MAINTENANCE, window_id)!r}", param="window_id"
        )
    window = await _locked(session, node_id, window_id)
    if window.state in _STANDING:
        await _finish(session, window, MaintenanceState.CANCELLED, reason="its maintenance was cancelled")
    return window


async def follow_windows(session: AsyncSession) -> int:
    """Start and end the windows that are due; returns how many changed. Safe to run twice at once."""
    now = func.clock_timestamp()
    over = MaintenanceWindow.ends_at <= now
    statement = select(MaintenanceWindow.node_id, MaintenanceWindow.id).where(
        MaintenanceWindow.state.in_(_STANDING), over | _is_due(now)
    )
    changed = 0
    # Nodes in id order, as everybody locks them.
    for node_id, window_id in sorted(tuple(row) for row in await session.execute(statement)):
        window = await _locked(session, node_id, window_id)
        moment = (await session.execute(select(now))).scalar_one()
        if window.state in _STANDING and window.ends_at <= moment:
            await _finish(session, window, MaintenanceState.ENDED, reason="its maintenance is over")
            changed += 1
        elif window.state is MaintenanceState.PLANNED:
            await _start(session, window)
            changed += 1
    return changed


def _is_due(now: ColumnElement[datetime]) -> ColumnElement[bool]:
    notice = func.make_interval(0, 0, 0, 0, 0, 0, MaintenanceWindow.notice_s)
    return (MaintenanceWindow.state == MaintenanceState.PLANNED) & (
        MaintenanceWindow.starts_at - notice <= now
    )


async def _start(session: AsyncSession, window: MaintenanceWindow) -> None:
    window.state = MaintenanceState.STARTED
    node = await session.get_one(Node, window.node_id)
    # Whoever drained it by hand resumes it by hand.
    if node.state not in {NodeState.DRAINING, NodeState.RETIRED}:
        reason = f"maintenance: {window.reason}" if window.reason else "maintenance"
        await _drain(session, node, notice_s=window.notice_s, reason=reason, by=SYSTEM, window=window)
    await session.flush()


async def _finish(
    session: AsyncSession, window: MaintenanceWindow, state: MaintenanceState, *, reason: str
) -> None:
    window.state = state
    node = await session.get_one(Node, window.node_id)
    if node.state is NodeState.DRAINING and node.maintenance_id == window.id:
        await resume_node(session, node_id=node.id, reason=reason, by=SYSTEM)
    await session.flush()


async def _drain(
    session: AsyncSession,
    node: Node,
    *,
    notice_s: float,
    reason: str,
    by: Actor | None,
    window: MaintenanceWindow | None,
) -> Node:
    await change(session, node.id, NodeEventKind.DRAINED, reason=reason, by=by)
    node.maintenance_id = window.id if window is not None else None
    node.drain_until = func.clock_timestamp() + timedelta(seconds=notice_s) if notice_s else None
    await session.flush()
    await session.refresh(node, ["drain_until"])
    return node


async def _locked(session: AsyncSession, node_id: UUID, window_id: UUID) -> MaintenanceWindow:
    """The window as it is now; its node's row is locked, by which all changes of windows wait for each other."""
    await session.get(Node, node_id, with_for_update={"key_share": True}, populate_existing=True)
    return await session.get_one(MaintenanceWindow, window_id, populate_existing=True)


def _standing_of(node_id: UUID) -> Select[MaintenanceWindow]:
    return (
        select(MaintenanceWindow)
        .where(MaintenanceWindow.node_id == node_id, MaintenanceWindow.state.in_(_STANDING))
        .order_by(MaintenanceWindow.starts_at)
    )


async def windows_of(session: AsyncSession, node_id: UUID) -> Sequence[MaintenanceWindow]:
    """The node's windows that are planned or under way, the next one first."""
    return (await session.scalars(_standing_of(node_id))).all()


def _check_times(now: datetime, starts_at: datetime, ends_at: datetime) -> None:
    """Raises: InvalidRequest."""
    starts_at, ends_at = starts_at.astimezone(UTC), ends_at.astimezone(UTC)
    if ends_at <= now:
        raise InvalidRequest(f"{ends_at.isoformat()} is over; it is {now.isoformat()}", param="ends_at")
    if ends_at <= starts_at:
        raise InvalidRequest("the window ends before it starts", param="ends_at")
    if starts_at > now + AHEAD:
        raise InvalidRequest(
            f"{starts_at.isoformat()} is more than {AHEAD.days} days away", param="starts_at"
        )
    if ends_at - starts_at > LENGTH_MAX:
        raise InvalidRequest(
            f"the window is longer than {LENGTH_MAX.days} days; drain the node instead", param="ends_at"
        )


def _check_notice(notice_s: float) -> None:
    """Raises: InvalidRequest."""
    if not 0 <= notice_s <= NOTICE_S_MAX:
        raise InvalidRequest(f"a notice of {notice_s} s is outside 0 to {NOTICE_S_MAX}", param="notice_s")


def _checked_reason(reason: str) -> str:
    """Raises: InvalidRequest when the reason is too long or cannot be stored."""
    if len(reason) > REASON_CHARACTERS_MAX or "\0" in reason:
        raise InvalidRequest(
            f"a reason has at most {REASON_CHARACTERS_MAX} characters, and no NUL; this has {len(reason)}",
            param="reason",
        )
    return reason
