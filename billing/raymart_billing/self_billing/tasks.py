"""Background work of self-billing: each final payment gets its document within a minute."""

from collections.abc import Sequence

import structlog

from raymart_billing.invoices.party import seller_of
from raymart_billing.self_billing.service import due_payments, issue_self_billing_invoice
from raymart_billing.work import Context, Periodic
from raymart_marketplace.db.session import session_scope

log = structlog.get_logger()


async def issue_due(context: Context) -> None:
    """Issue what is due, each document in a transaction of its own: numbers are taken one after the other."""
    async with session_scope(context.sessions) as session:
        due = await due_payments(session)
    recipient = seller_of(context.settings)
    for payout_item_id in due:
        async with session_scope(context.sessions) as session:
            await issue_self_billing_invoice(session, payout_item_id, recipient=recipient)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="self_billing.issue_due", handle=issue_due, every_s=60.0, timeout_s=240.0),
)
