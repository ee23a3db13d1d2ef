"""Payouts in the background: what is due by the clock, what people ask for, and what follows a cancellation."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from raymart_billing.payouts.cancelling import CANCEL_TASK, give_back
from raymart_billing.payouts.epochs import newest_epoch
from raymart_billing.payouts.requests import PLAN_TASK, PlanRequest
from raymart_billing.payouts.running import mint_of, run_due, run_now
from raymart_billing.work import Context, Periodic, Task, TaskContext
from raymart_billing.work.models import OutboxItem
from raymart_marketplace.db.session import session_scope


async def _run_due(context: Context) -> None:
    await run_due(context.sessions, mint=mint_of(context.settings))


async def _plan(context: TaskContext, subject: str) -> None:
    """Safe under running twice: an epoch that has ended since it was asked for is not followed by another."""
    request = PlanRequest.of_subject(subject)
    async with session_scope(context.sessions) as session:
        asked_at = await session.scalar(
            select(OutboxItem.created_at).where(OutboxItem.id == context.outbox_id)
        )
        newest = await newest_epoch(session)
    is_ended = newest is not None and asked_at is not None and newest.ends_at >= asked_at
    await run_now(
        context.sessions,
        mint=mint_of(context.settings),
        ends_epoch=request.ends_epoch and not is_ended,
        created_by=request.created_by,
    )


async def _cancel(context: TaskContext, subject: str) -> None:
    await give_back(context.sessions, UUID(subject))


TASKS: Sequence[Task] = (
    Task(name=PLAN_TASK, handle=_plan, timeout_s=300.0),
    Task(name=CANCEL_TASK, handle=_cancel, timeout_s=300.0),
)
PERIODICS: Sequence[Periodic] = (
    Periodic(name="payouts.run_due", handle=_run_due, every_s=300.0, timeout_s=300.0),
)
