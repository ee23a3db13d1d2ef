"""Asking the processor about what its webhooks did not tell, and finishing what a process left.

Everything found goes through `events.apply_fact`, the path of the webhooks: asking twice changes nothing.
"""

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.checkout import CardRules, open_page
from raymart_billing.deposits.events import apply_event, apply_fact, receive
from raymart_billing.deposits.learn import TooEarly
from raymart_billing.deposits.models import Deposit, DepositState
from raymart_billing.deposits.settle import settle_debt
from raymart_billing.deposits.stripe_client import Refused, StripeProcessor
from raymart_billing.deposits.stripe_facts import Event
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

CHECK_AFTER = timedelta(minutes=5)
"""A webhook comes within seconds; after this long one is asked for."""
CHECKS_MAX = 50
"""Deposits asked about by one run."""
FORGET_AFTER = timedelta(days=30)
REPLAY_OVERLAP = timedelta(hours=1)
"""Events are listed by their time and may appear late in that list."""
REPLAY_BEGIN = timedelta(days=3)
"""How far back the first run looks."""
WINDOW = timedelta(hours=6)
WINDOWS_MAX = 200
"""Of one run: 50 days, more than Stripe keeps events for."""
REPLAY_PAGES_MAX = 200
"""Of one window, 100 events each; more is an error and not a gap."""
DEBTS_MAX = 500

_DUE = text(
    """
    update deposit set checked_at = clock_timestamp()
     where id in (
        select id from deposit
         where (state in ('created', 'pending') or fee_due) and rail = 'card'
           -- The older the deposit, the rarer the question: at first every five minutes, after a day every few hours.
           and checked_at <= clock_timestamp() - greatest(:check_after, (clock_timestamp() - created_at) / 10)
           and created_at > clock_timestamp() - :forget_after
         order by checked_at
         limit :checks_max
         for no key update skip locked
     )
    returning id
    """
)
_WINDOW = text(
    """
    select since, least(since + :length, now) as until, now
      from (
        select coalesce((select through_at from stripe_replay), clock_timestamp() - :begin) as since,
               clock_timestamp() as now
      ) reached
    """
)
_REPLAYED = text(
    """
    insert into stripe_replay (through_at) values (:through)
    on conflict (is_only) do update set through_at = greatest(stripe_replay.through_at, excluded.through_at)
    """
)
_DEBTORS = text(
    """
    select r.owner_id
      from ledger_account r
      join ledger_account b on b.owner_id = r.owner_id and b.asset = r.asset and b.kind = 'customer_balance'
     where r.kind = 'customer_receivable' and r.debits_posted > r.credits_posted
       and b.credits_posted - b.debits_posted - b.debits_pending > 0
     limit :debts_max
    """
)


async def check_deposits(
    sessions: Sessions, processor: StripeProcessor, rules: CardRules, *, after: timedelta = CHECK_AFTER
) -> int:
    """Ask about deposits that nothing was heard of for a while; returns how many were asked about.

    Any number may run at once: a deposit that is asked about is due again only later. Raises: Unavailable, Overloaded.
    """
    async with session_scope(sessions) as session:
        due = (
            await session.scalars(
                _DUE,
                {"check_after": after, "forget_after": FORGET_AFTER, "checks_max": CHECKS_MAX},
            )
        ).all()
    for deposit_id in due:
        try:
            await check_deposit(sessions, processor, rules, deposit_id)
        except Refused as error:
            # What the processor does not know must not keep the others from being asked about.
            log.warning("deposit.check_refused", deposit_id=str(deposit_id), error=error.message)
    return len(due)


async def check_deposit(
    sessions: Sessions, processor: StripeProcessor, rules: CardRules, deposit_id: UUID
) -> Deposit:
    """Ask the processor how one deposit stands, and bring the books to it. Raises: Unavailable, Overloaded."""
    async with session_scope(sessions) as session:
        deposit = await session.get_one(Deposit, deposit_id)
    if deposit.state is DepositState.CREATED:
        try:
            return await open_page(sessions, processor, rules, deposit)
        except Refused:
            return deposit  # It has failed, and says why.
    if deposit.session_id is None:
        return deposit
    checkout, charge = await processor.checkout(deposit.session_id)
    async with session_scope(sessions) as session:
        await apply_fact(session, checkout)
        if charge is not None:
            await apply_fact(session, charge)
        return await session.get_one(Deposit, deposit_id, populate_existing=True)


async def replay_events(sessions: Sessions, processor: StripeProcessor) -> int:
    """Fetch the processor's events since the last replay and apply those whose webhook never came; returns how many.

    Works through time in windows and remembers how far it got, so that an outage of any length leaves no gap.
    Raises: Unavailable, Overloaded.
    """
    new = 0
    for _ in range(WINDOWS_MAX):
        async with session_scope(sessions) as session:
            since, until, now = await _window(session)
        events = await processor.events(since=since, until=until, pages_max=REPLAY_PAGES_MAX)
        for event in sorted(events, key=lambda event: (event.created, event.id)):
            new += await _take(sessions, event)
        async with session_scope(sessions) as session:
            # Events may appear late in the list: the last hour is looked at again.
            await session.execute(_REPLAYED, {"through": min(until, now - REPLAY_OVERLAP)})
        if until >= now:
            break
    return new


async def _take(sessions: Sessions, event: Event) -> bool:
    """Receive and apply a listed event; returns whether it is one that was missed."""
    async with session_scope(sessions) as session:
        if not await receive(session, event):
            return False
    log.warning("stripe_event.missed", event_id=event.id, type=event.type)
    try:
        async with session_scope(sessions) as session:
            await apply_event(session, event.id)
    except TooEarly:
        log.info("stripe_event.early", event_id=event.id)  # Its outbox row tries again.
    return True


async def settle_debts(sessions: Sessions) -> int:
    """Let customers that owe and have pay; returns how many. Money comes back when requests end or leases are returned."""
    async with session_scope(sessions) as session:
        debtors = (await session.scalars(_DEBTORS, {"debts_max": DEBTS_MAX})).all()
    for organization_id in debtors:
        async with session_scope(sessions) as session:
            await settle_debt(session, organization_id)
    return len(debtors)


async def _window(session: AsyncSession) -> tuple[datetime, datetime, datetime]:
    """The next stretch of time to replay, and the present."""
    row = (await session.execute(_WINDOW, {"begin": REPLAY_BEGIN, "length": WINDOW})).one()
    return row.since, row.until, row.now
