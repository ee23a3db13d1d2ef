"""Background work of alerts."""

from collections.abc import Sequence
from uuid import UUID

from raymart_billing.alerts.budgets import check_budgets
from raymart_billing.alerts.delivery import deliver
from raymart_billing.alerts.low_balance import DELIVER_TASK, check_low_balances
from raymart_billing.mail import open_channel
from raymart_billing.work import Context, Periodic, Task, TaskContext
from raymart_core.money import Money


async def _check(context: Context) -> None:
    await check_low_balances(context.sessions, threshold=Money.parse(str(context.settings.low_balance_usd)))
    await check_budgets(context.sessions)


async def _deliver(context: TaskContext, subject: str) -> None:
    await deliver(context.sessions, open_channel(context.settings), UUID(subject))


TASKS: Sequence[Task] = (Task(name=DELIVER_TASK, handle=_deliver, timeout_s=90.0),)
PERIODICS: Sequence[Periodic] = (Periodic(name="alerts.check", handle=_check, every_s=60.0),)
