"""Background work of reconciliation: one every night, those that administrators ask for, and the mails about them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from raymart_billing.mail import open_channel
from raymart_billing.payouts.reconciliation.mailing import tell_differences
from raymart_billing.payouts.reconciliation.models import RunTrigger
from raymart_billing.payouts.reconciliation.opening import reconcile
from raymart_billing.payouts.reconciliation.service import (
    NIGHTLY_LOOKS_BACK,
    RUN_TASK,
    TELL_TASK,
    ask_for_run,
    fail_run,
)
from raymart_billing.solana.chain import required
from raymart_billing.work import Context, Periodic, Task, TaskContext
from raymart_core.errors import Unavailable
from raymart_marketplace.db.session import session_scope

NIGHT_HOUR_UTC = 2
ATTEMPTS_MAX = 12

_DUE = text(
    """
    select clock_timestamp()
     where extract(hour from clock_timestamp() at time zone 'utc') >= :hour
       and not exists (
            select from reconciliation_run
             where trigger = 'nightly' and (created_at at time zone 'utc')::date = (clock_timestamp() at time zone 'utc')::date
       )
    """
)


async def _nightly(context: Context) -> None:
    """Ask for the night's run, once a day. Where there is no chain there is nothing to reconcile."""
    if context.chain is None:
        return
    async with session_scope(context.sessions) as session:
        now = await session.scalar(_DUE, {"hour": NIGHT_HOUR_UTC})
        if now is not None:
            await ask_for_run(session, trigger=RunTrigger.NIGHTLY, since=now - NIGHTLY_LOOKS_BACK)


async def _run(context: TaskContext, subject: str) -> None:
    try:
        await reconcile(context.sessions, required(context.chain), UUID(subject))
    except Unavailable as error:
        if context.attempt >= ATTEMPTS_MAX:
            async with session_scope(context.sessions) as session:
                await fail_run(session, UUID(subject), error.message)
        raise


async def _tell(context: TaskContext, subject: str) -> None:
    await tell_differences(context.sessions, open_channel(context.settings), UUID(subject))


TASKS: Sequence[Task] = (
    Task(name=RUN_TASK, handle=_run, timeout_s=300.0, attempts_max=ATTEMPTS_MAX),
    Task(name=TELL_TASK, handle=_tell, timeout_s=90.0),
)
PERIODICS: Sequence[Periodic] = (
    Periodic(name="payouts.ask_for_reconciliation", handle=_nightly, every_s=600.0),
)
