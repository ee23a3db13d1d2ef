"""What choices ask workers for: a look at the chain, and mails. Takes a session with the process's own rights."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.work import outbox

CHECK_TASK = "payout_wallets.check"
TELL_TASK = "payout_wallets.tell"


class Event(StrEnum):
    """What owners are told of a choice."""

    CHOSEN = "chosen"
    CANCELLED = "cancelled"
    PROOF_WITHDRAWN = "proof_withdrawn"
    CHECK_FAILED = "check_failed"


async def check_later(session: AsyncSession, wallet_id: UUID) -> None:
    """Ask a worker to look at the wallet on the chain."""
    await outbox.enqueue(session, task=CHECK_TASK, subject=str(wallet_id), key=str(wallet_id))


async def tell_later(session: AsyncSession, wallet_id: UUID, event: Event) -> None:
    """Ask a worker to tell the owners, once per choice and event."""
    subject = f"{wallet_id}:{event.value}"
    await outbox.enqueue(session, task=TELL_TASK, subject=subject, key=subject)
