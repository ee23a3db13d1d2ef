"""What a person may do to an outbox row: let it run again, or call it off. Each leaves a row that says who and why."""

from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.work.hints import hint_after_commit
from raymart_billing.work.models import OutboxItem, RunState, TaskRun, WorkAction, WorkActionKind, WorkState
from raymart_core.errors import Conflict, InvalidRequest, NotFound

log = structlog.get_logger()

REASON_LENGTH_MAX = 500


async def retry_work(
    session: AsyncSession, *, outbox_id: UUID, actor_id: UUID | None, reason: str
) -> OutboxItem:
    """Make the row due now, with all its attempts before it again. Locks the row.

    Raises: NotFound, InvalidRequest (no reason), Conflict (it runs, or it is done).
    """
    item = await _locked(session, outbox_id)
    if item.state is WorkState.RUNNING:
        raise Conflict(f"{item.task} is running; cancel it first, or wait for its end")
    if item.state is WorkState.DONE:
        raise Conflict(f"{item.task} is done already; what it did is not done twice")
    item.state, item.attempts, item.finished_at = WorkState.READY, 0, None
    await _note(session, item, WorkActionKind.RETRY, actor_id=actor_id, reason=reason)
    await session.execute(
        update(OutboxItem).where(OutboxItem.id == outbox_id).values(due_at=func.clock_timestamp())
    )
    hint_after_commit(session.sync_session, outbox_id)
    return await _fresh(session, item)


async def cancel_work(
    session: AsyncSession, *, outbox_id: UUID, actor_id: UUID | None, reason: str
) -> OutboxItem:
    """Call the row off. A handler that runs is stopped within seconds and cannot finish; what it did elsewhere stays.

    Locks the row. Raises: NotFound, InvalidRequest (no reason), Conflict (it has ended well, or was called off before).
    """
    item = await _locked(session, outbox_id)
    if item.state in {WorkState.DONE, WorkState.CANCELLED}:
        raise Conflict(f"{item.task} is {item.state.value} already; there is nothing to cancel")
    now = await session.scalar(select(func.clock_timestamp()))
    item.state, item.finished_at = WorkState.CANCELLED, now
    item.locked_by = item.locked_until = None
    item.fence += 1  # Whoever runs it has the old one.
    running = update(TaskRun).where(TaskRun.outbox_id == outbox_id, TaskRun.state == RunState.RUNNING)
    await session.execute(
        running.values(
            state=RunState.LOST, finished_at=func.clock_timestamp(), error="cancelled by an operator"
        )
    )
    await _note(session, item, WorkActionKind.CANCEL, actor_id=actor_id, reason=reason)
    return await _fresh(session, item)


async def _locked(session: AsyncSession, outbox_id: UUID) -> OutboxItem:
    item = await session.get(
        OutboxItem, outbox_id, with_for_update={"key_share": True}, populate_existing=True
    )
    if item is None:
        raise NotFound(
            f"there is no work {outbox_id}; what ended well is forgotten after 30 days", param="id"
        )
    return item


async def _note(
    session: AsyncSession, item: OutboxItem, action: WorkActionKind, *, actor_id: UUID | None, reason: str
) -> None:
    if not 0 < len(reason.strip()) <= REASON_LENGTH_MAX:
        raise InvalidRequest(f"say why, in 1 to {REASON_LENGTH_MAX} characters", param="reason")
    session.add(WorkAction(outbox_id=item.id, action=action, actor_id=actor_id, reason=reason.strip()))
    await session.flush()
    log.info(
        "work.acted", action=action.value, task=item.task, outbox_id=str(item.id), actor_id=str(actor_id)
    )


async def _fresh(session: AsyncSession, item: OutboxItem) -> OutboxItem:
    await session.flush()
    await session.refresh(item)
    return item
