"""Month-end in the background: months that are over are drawn up, and drafts become final after the grace period.

The periodics only look and ask; each customer's document is a task of its own, with its tries and its last error for
administrators to see. A task that failed for good is asked for again on the next day.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

from raymart_billing.invoices.due import DUE_BATCH_MAX, due_drafts, due_drafts_to_finalize
from raymart_billing.invoices.party import seller_of
from raymart_billing.invoices.service import database_now, draft_invoice, finalize_invoice
from raymart_billing.work import Context, Periodic, Task, TaskContext, outbox
from raymart_core.errors import NotFound
from raymart_marketplace.db.session import session_scope

DRAFT_TASK = "invoices.draft"
FINALIZE_TASK = "invoices.finalize"


async def ask_for_drafts(context: Context) -> None:
    """Ask for the invoice of each customer's oldest month that is over and has none."""
    after: UUID | None = None
    while True:
        async with session_scope(context.sessions) as session:
            found = await due_drafts(session, after=after)
            today = (await database_now(session)).date()
            for due in found:
                subject = f"{due.organization_id}:{due.period_start}"
                await outbox.enqueue(session, task=DRAFT_TASK, subject=subject, key=f"{subject}:{today}")
        if len(found) < DUE_BATCH_MAX:
            return
        after = found[-1].organization_id


async def ask_for_finals(context: Context) -> None:
    """Ask for the last step of each draft that has waited for the grace period."""
    after: UUID | None = None
    grace = timedelta(seconds=context.settings.invoice_grace_s)
    while True:
        async with session_scope(context.sessions) as session:
            found = await due_drafts_to_finalize(session, grace=grace, after=after)
            today = (await database_now(session)).date()
            for invoice_id in found:
                subject = str(invoice_id)
                await outbox.enqueue(session, task=FINALIZE_TASK, subject=subject, key=f"{subject}:{today}")
        if len(found) < DUE_BATCH_MAX:
            return
        after = found[-1]


async def draft(context: TaskContext, subject: str) -> None:
    """Draw one invoice up; `subject` is "<organization>:<first day of the month>"."""
    organization_id, _, period_start = subject.partition(":")
    async with context.finishing() as session:
        await draft_invoice(
            session,
            organization_id=UUID(organization_id),
            period_start=date.fromisoformat(period_start),
        )


async def finalize(context: TaskContext, subject: str) -> None:
    """Make one draft final; `subject` is its id. A draft that somebody discarded meanwhile is done."""
    async with context.finishing() as session:
        try:
            await finalize_invoice(session, UUID(subject), seller=seller_of(context.settings), actor_id=None)
        except NotFound:
            return


TASKS: Sequence[Task] = (
    # All of a large customer's month is read.
    Task(name=DRAFT_TASK, handle=draft, timeout_s=300.0),
    Task(name=FINALIZE_TASK, handle=finalize),
)
PERIODICS: Sequence[Periodic] = (
    Periodic(name="invoices.ask_for_drafts", handle=ask_for_drafts, every_s=300.0),
    Periodic(name="invoices.ask_for_finals", handle=ask_for_finals, every_s=300.0),
)
