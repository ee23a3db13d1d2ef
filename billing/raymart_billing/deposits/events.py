"""Events of the processor: written down first, applied once, and found again when a process died in between.

`receive` and `apply_event` are two transactions. What `receive` committed is acknowledged to Stripe, and an outbox row
stands behind it; applying it at once only makes the customer wait less.
"""

import msgspec
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.learn import Learned, learn
from raymart_billing.deposits.models import EventState, StripeEvent
from raymart_billing.deposits.settle import settle
from raymart_billing.deposits.stripe_facts import Event, Fact, Malformed, fact_of
from raymart_billing.work import inbox, outbox

log = structlog.get_logger()

SOURCE = "stripe"
APPLY_TASK = "deposits.apply_event"
DETAIL_CHARACTERS_MAX = 500


async def receive(session: AsyncSession, event: Event) -> bool:
    """Write `event` down; returns whether it is new and waits to be applied. A repeat writes nothing."""
    if not await inbox.first_time(session, source=SOURCE, message_id=event.id):
        return False
    fact, state, detail = _reading(event)
    session.add(
        StripeEvent(
            id=event.id,
            type=event.type,
            object_id=event.object_id,
            occurred_at=event.occurred_at,
            fact=msgspec.to_builtins(fact) if fact is not None else None,
            state=state,
            detail=detail,
        )
    )
    if fact is not None:
        await outbox.enqueue(session, task=APPLY_TASK, subject=event.id, key=event.id)
    await session.flush()
    return fact is not None


async def apply_event(session: AsyncSession, event_id: str) -> EventState:
    """Apply a received event to what is known and to the books; a repeat changes nothing.

    Locks the event, its payment, its deposit, the customer's accounts, in this order. Raises: TooEarly.
    """
    query = select(StripeEvent).where(StripeEvent.id == event_id).with_for_update()
    event = (await session.scalars(query.execution_options(populate_existing=True))).one()
    if event.state is not EventState.RECEIVED:
        return event.state
    fact: Fact = msgspec.convert(event.fact, Fact)
    learned = await apply_fact(session, fact)
    event.state = learned.state
    event.detail = learned.detail and learned.detail[:DETAIL_CHARACTERS_MAX]
    await session.flush()
    if learned.state is EventState.REVIEW:
        log.error("stripe_event.review", event_id=event_id, type=event.type, detail=event.detail)
    return event.state


async def apply_fact(session: AsyncSession, fact: Fact) -> Learned:
    """Learn `fact` and settle the deposit it is about. Raises: TooEarly."""
    learned = await learn(session, fact)
    if learned.deposit_id is not None:
        await settle(session, learned.deposit_id)
    return learned


def _reading(event: Event) -> tuple[Fact | None, EventState, str | None]:
    try:
        fact = fact_of(event)
    except Malformed as error:
        return None, EventState.REVIEW, error.message[:DETAIL_CHARACTERS_MAX]
    if fact is None:
        return None, EventState.IGNORED, "not a kind of event that moves a deposit"
    return fact, EventState.RECEIVED, None
