"""Background work of deposits."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from raymart_billing.deposits.events import APPLY_TASK, apply_event
from raymart_billing.deposits.rail import CardRail, open_rail
from raymart_billing.deposits.reconcile import check_deposits, replay_events, settle_debts
from raymart_billing.deposits.refunds import SEND_TASK, send_refund
from raymart_billing.work import Context, Periodic, Task, TaskContext


@asynccontextmanager
async def _rail(context: Context) -> AsyncIterator[CardRail | None]:
    """The card rail for one run; None where it is not configured."""
    rail = open_rail(context.settings)
    try:
        yield rail
    finally:
        if rail is not None:
            rail.processor.close()


async def _apply(context: TaskContext, subject: str) -> None:
    async with context.finishing() as session:
        await apply_event(session, subject)


async def _send_refund(context: TaskContext, subject: str) -> None:
    async with _rail(context) as rail:
        assert rail is not None, (
            "a refund waits and card top-ups are not configured: set RAYMART_STRIPE_API_KEY"
        )
        await send_refund(context.sessions, rail.processor, UUID(subject))


async def _check(context: Context) -> None:
    async with _rail(context) as rail:
        if rail is not None:
            await check_deposits(context.sessions, rail.processor, rail.rules)


async def _replay(context: Context) -> None:
    async with _rail(context) as rail:
        if rail is not None:
            await replay_events(context.sessions, rail.processor)


async def _settle_debts(context: Context) -> None:
    await settle_debts(context.sessions)


TASKS: Sequence[Task] = (
    # Two weeks of tries: Stripe may be away for long, and the money has left the balance already.
    Task(name=SEND_TASK, handle=_send_refund, timeout_s=120.0, attempts_max=400, backoff_s_max=3_600.0),
    Task(name=APPLY_TASK, handle=_apply),
)
PERIODICS: Sequence[Periodic] = (
    Periodic(name="deposits.check", handle=_check, every_s=60.0, timeout_s=240.0),
    Periodic(name="deposits.replay_events", handle=_replay, every_s=600.0, timeout_s=240.0),
    Periodic(name="deposits.settle_debts", handle=_settle_debts, every_s=60.0),
)
