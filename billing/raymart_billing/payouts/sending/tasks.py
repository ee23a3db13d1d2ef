"""Background work of sending."""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import text

from raymart_billing.payouts.models import BatchKind, PartState
from raymart_billing.payouts.sending.booking import Booking, EarningsBooking
from raymart_billing.payouts.sending.failpoints import FailpointSettings, open_failpoints
from raymart_billing.payouts.sending.reclaim import reclaim_markers
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.payouts.sending.sender import Sender
from raymart_billing.payouts.sending.settling import SEND_TASK
from raymart_billing.usdc_deposits.booking import RefundBooking
from raymart_billing.work import Context, Periodic, Task, TaskContext
from raymart_marketplace.db.session import session_scope

BOOKINGS: Mapping[BatchKind, Booking] = MappingProxyType(
    {BatchKind.EARNINGS: EarningsBooking(), BatchKind.DEPOSIT_REFUND: RefundBooking()}
)
ROUND_TIMEOUT_S = 120.0
"""Longer than a round whose every question takes the endpoints' whole timeout; the leases end by themselves."""
_STATE = text("select state from payout_part where id = :id")
ROUNDS_PER_RUN = 4
"""A run goes on while parts are in flight, but a solo worker does nothing else meanwhile."""
BETWEEN_ROUNDS_S = 0.4
"""A slot: nothing new can be final sooner."""


def open_sender(context: Context) -> Sender | None:
    """The engine for one run; None where Solana is not configured."""
    if context.chain is None:
        return None
    return Sender(
        context.sessions,
        context.chain,
        bookings=BOOKINGS,
        failpoints=open_failpoints(FailpointSettings()),
    )


async def _send_part(context: TaskContext, subject: str) -> None:
    """A round at once, if the part waits for its first one. The first of a batch's hints thereby sends all its parts.

    What is not done then is the periodic's.
    """
    sender = open_sender(context)
    if sender is None:
        return
    async with session_scope(context.sessions) as session:
        state = await session.scalar(_STATE, {"id": UUID(subject)})
    if state == PartState.PLANNED:
        await sender.round()


async def _send(context: Context) -> None:
    """Rounds, as long as something is in flight and others can wait: a tick is 2 s, and a slot is 0.4 s."""
    sender = open_sender(context)
    if sender is None:
        return
    for _ in range(ROUNDS_PER_RUN):
        if not (await sender.round()).parts:
            return
        await asyncio.sleep(BETWEEN_ROUNDS_S)


async def _reclaim(context: Context) -> None:
    if context.chain is not None:
        failpoints = open_failpoints(FailpointSettings())
        await reclaim_markers(context.sessions, context.chain, SendingRules(), failpoints=failpoints)


TASKS: Sequence[Task] = (Task(name=SEND_TASK, handle=_send_part, timeout_s=ROUND_TIMEOUT_S),)
PERIODICS: Sequence[Periodic] = (
    Periodic(name="payouts.send", handle=_send, every_s=1.0, timeout_s=ROUND_TIMEOUT_S),
    Periodic(name="payouts.reclaim_markers", handle=_reclaim, every_s=3_600.0, timeout_s=ROUND_TIMEOUT_S),
)
