"""Background work of payout wallets: looks at the chain, and mails to owners."""

from collections.abc import Sequence
from uuid import UUID

from raymart_billing.mail import open_channel
from raymart_billing.payout_wallets.checks import check_wallets, due_checks
from raymart_billing.payout_wallets.notices import tell
from raymart_billing.payout_wallets.requests import CHECK_TASK, TELL_TASK, Event
from raymart_billing.work import Context, Periodic, Task, TaskContext
from raymart_marketplace.db.session import session_scope


async def _check(context: TaskContext, subject: str) -> None:
    if context.chain is not None:
        await check_wallets(context.sessions, context.chain.rpc, context.chain.mint, [UUID(subject)])


async def _check_due(context: Context) -> None:
    if context.chain is None:  # Nothing is paid here either.
        return
    async with session_scope(context.sessions) as session:
        due = await due_checks(session)
    if due:
        await check_wallets(context.sessions, context.chain.rpc, context.chain.mint, due)


async def _tell(context: TaskContext, subject: str) -> None:
    wallet_id, _, event = subject.partition(":")
    await tell(context.sessions, open_channel(context.settings), UUID(wallet_id), Event(event))


TASKS: Sequence[Task] = (
    # A few tries at once; after that the periodic goes on, for as long as the chain is away.
    Task(name=CHECK_TASK, handle=_check, attempts_max=5),
    Task(name=TELL_TASK, handle=_tell, timeout_s=90.0),
)
PERIODICS: Sequence[Periodic] = (
    Periodic(name="payout_wallets.check_due", handle=_check_due, every_s=60.0, timeout_s=240.0),
)
