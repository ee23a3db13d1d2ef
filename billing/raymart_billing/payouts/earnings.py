"""Earnings: what each provider earned in an epoch, drawn from the ledger as a range of its transfers, and the holdback.

The transfers of one account are ordered by id under its lock, so ranges that join leave none out and count none twice.
A chunk of providers is a transaction; any number of runs may overlap.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, TransferCode
from raymart_billing.ledger.posting import Movement, post
from raymart_billing.payouts.holdback import holdback_of
from raymart_billing.payouts.models import Earning, Epoch
from raymart_billing.payouts.payable import CHUNK_PROVIDERS, Accounts, lock_accounts
from raymart_billing.payouts.policy import Rules, present_rules
from raymart_billing.payouts.trust import trust_of
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.oversight.models import UsageFlag
from raymart_marketplace.oversight.suspension import withheld_providers

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One provider's range of transfers, as the ledger has it. Amounts are nano-USD."""

    provider_id: UUID
    after_id: int
    upto_id: int
    gross: int
    clawback: int
    balance: int
    """Of the payable account now, without what is held."""


async def draw_earnings(sessions: Sessions, epoch_id: UUID) -> int:
    """Write down what every provider earned in the epoch and keep the holdback back; returns how many were new."""
    drawn, after = 0, 0
    while True:
        async with session_scope(sessions) as session:
            due = (
                await session.execute(_DUE, {"epoch": epoch_id, "after": after, "limit": CHUNK_PROVIDERS})
            ).all()
            if not due:
                break
            drawn += await _draw(session, epoch_id, [row.owner_id for row in due])
            after = due[-1].id
    async with session_scope(sessions) as session:
        await session.execute(
            update(Epoch)
            .where(Epoch.id == epoch_id, Epoch.closed_at.is_(None))
            .values(closed_at=func.clock_timestamp())
        )
    log.info("earnings.drawn", epoch_id=str(epoch_id), providers=drawn)
    return drawn


async def _draw(session: AsyncSession, epoch_id: UUID, provider_ids: list[UUID]) -> int:
    epoch = await session.get_one(Epoch, epoch_id)
    accounts = await lock_accounts(session, provider_ids, other=AccountKind.PROVIDER_RESERVE)
    values = {"epoch": epoch_id, "ends_at": epoch.ends_at, "accounts": list(accounts.payable.values())}
    ranges = [
        Drawn(
            provider_id=row.provider_id,
            after_id=row.after_id,
            upto_id=row.upto_id,
            gross=int(row.gross),
            clawback=int(row.clawback),
            balance=row.balance,
        )
        for row in await session.execute(_RANGES, values)
    ]
    # Who has earned nothing, and has nothing left from before, gets no line.
    ranges = [each for each in ranges if each.upto_id > each.after_id or (each.after_id and each.balance)]
    rules, trust = await present_rules(session), await trust_of(session, provider_ids)
    made = [_earning(each, epoch, trust=trust[each.provider_id], rules=rules) for each in ranges]
    session.add_all(made)
    await session.flush()
    kept = [_kept(earning, accounts) for earning in made if earning.holdback_nano_usd]
    if kept:
        await post(session, kept)
    return len(made)


def _earning(drawn: Drawn, epoch: Epoch, *, trust: int, rules: Rules) -> Earning:
    holdback = holdback_of(
        Money(drawn.gross - drawn.clawback), trust=trust, bands=rules.bands, covered=Money(drawn.balance)
    )
    return Earning(
        id=new_id(),
        epoch_id=epoch.id,
        provider_id=drawn.provider_id,
        after_transfer_id=drawn.after_id,
        upto_transfer_id=drawn.upto_id,
        gross_nano_usd=drawn.gross,
        clawback_nano_usd=drawn.clawback,
        holdback_nano_usd=holdback.amount.amount,
        matures_at=epoch.ends_at + holdback.lasts if holdback.amount else None,
    )


def _kept(earning: Earning, accounts: Accounts) -> Movement:
    return Movement(
        key=f"earning:{earning.id}:kept",
        debit_account_id=accounts.payable[earning.provider_id],
        credit_account_id=accounts.other[earning.provider_id],
        amount=Money(earning.holdback_nano_usd),
        code=TransferCode.RESERVE_KEPT,
    )


async def release_matured(sessions: Sessions) -> int:
    """Give back every holdback whose time is over; returns how many.

    Not of who is suspended or has usage under review: theirs wait until that ends.
    """
    released, after = 0, UUID(int=0)
    while True:
        async with session_scope(sessions) as session:
            query = select(Earning.id, Earning.provider_id).where(*_MATURED, Earning.id > after)
            found = (await session.execute(query.order_by(Earning.id).limit(CHUNK_PROVIDERS))).all()
            if not found:
                break
            released += await _release(session, {row.id: row.provider_id for row in found})
            after = found[-1].id
    if released:
        log.info("holdback.released", earnings=released)
    return released


_MATURED = (
    Earning.matures_at <= func.clock_timestamp(),
    Earning.released_at.is_(None),
)


async def _release(session: AsyncSession, due: dict[UUID, UUID]) -> int:
    """`due` is provider by earning."""
    providers = set(due.values())
    withheld = await withheld_providers(session, providers) | await flagged_providers(session, providers)
    due = {earning_id: provider_id for earning_id, provider_id in due.items() if provider_id not in withheld}
    if not due:
        return 0
    accounts = await lock_accounts(session, sorted(set(due.values())), other=AccountKind.PROVIDER_RESERVE)
    # Who was faster has committed by now.
    query = select(Earning).where(Earning.id.in_(due), *_MATURED).order_by(Earning.id)
    earnings = (await session.scalars(query.execution_options(populate_existing=True))).all()
    if not earnings:
        return 0
    now: datetime | None = await session.scalar(select(func.clock_timestamp()))
    for earning in earnings:
        earning.released_at = now
    await session.flush()
    await post(session, [_released(earning, accounts) for earning in earnings])
    return len(earnings)


def _released(earning: Earning, accounts: Accounts) -> Movement:
    return Movement(
        key=f"earning:{earning.id}:released",
        debit_account_id=accounts.other[earning.provider_id],
        credit_account_id=accounts.payable[earning.provider_id],
        amount=Money(earning.holdback_nano_usd),
        code=TransferCode.RESERVE_RELEASED,
    )


async def flagged_providers(session: AsyncSession, provider_ids: set[UUID]) -> frozenset[UUID]:
    """Those of the providers with usage that is under review."""
    found = await session.scalars(
        select(UsageFlag.provider_id)
        .where(UsageFlag.provider_id.in_(provider_ids), UsageFlag.cleared_at.is_(None))
        .distinct()
    )
    return frozenset(found)


_DUE = text(
    "select a.id, a.owner_id from ledger_account a join provider p on p.id = a.owner_id"
    " where a.kind = 'provider_payable' and a.asset = 'usd' and a.id > :after and not exists ("
    "  select from earning e where e.provider_id = a.owner_id and e.epoch_id = :epoch"
    " ) order by a.id limit :limit"
)
MOVED = """
    select t.id, t.created_at, t.amount as change, coalesce(o.code, t.code) as code
      from transfer t left join transfer o on o.id = t.reverses_id
     where t.credit_account_id = a.id and t.id > {after} and t.state = 'posted'
    union all
    select t.id, t.created_at, -t.amount, coalesce(o.code, t.code)
      from transfer t left join transfer o on o.id = t.reverses_id
     where t.debit_account_id = a.id and t.id > {after} and t.state = 'posted'
"""
"""What moved on account `a` after a transfer; a reversal counts as what it reverses."""
EARNED = "('usage_earning', 'refund_clawback')"
"""Codes that make earnings more or less; all others move what was earned before."""
# By ids, and so without a gap, up to the last transfer that was written before the epoch's end.
_RANGES = text(f"""
    select a.owner_id as provider_id, l.after_id, coalesce(r.upto_id, l.after_id) as upto_id, r.gross, r.clawback,
           a.credits_posted - a.debits_posted - a.debits_pending as balance
      from ledger_account a
      cross join lateral (
        select coalesce(max(e.upto_transfer_id), 0) as after_id from earning e where e.provider_id = a.owner_id
      ) l
      cross join lateral (
        with moved as ({MOVED.format(after="l.after_id")}),
             last as (select max(id) as id from moved where created_at < :ends_at)
        select max(m.id) as upto_id,
               coalesce(sum(m.change) filter (where m.change > 0 and m.code in {EARNED}), 0) as gross,
               coalesce(-sum(m.change) filter (where m.change < 0 and m.code in {EARNED}), 0) as clawback
          from moved m, last where m.id <= last.id
      ) r
     where a.id = any (cast(:accounts as bigint[])) and not exists (
        select from earning e where e.provider_id = a.owner_id and e.epoch_id = :epoch
     )
     order by a.id
""")  # noqa: S608 - put together from constants of our own
