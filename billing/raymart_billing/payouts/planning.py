"""Planning: who is paid for an epoch, how much and to which wallet, and who is not and why.

What a provider can be paid is its payable balance without what it earned after the epoch: carried-over dust, released
holdbacks and returned payouts are in it. Whole micro-USDC are paid; the rest stays.

A chunk of providers is a transaction. While more is to come the batch is held, so that nobody approves a part of it; a
run that died is taken up by the next. Locks: planning, then the batch, then accounts in id order.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog
from solders.pubkey import Pubkey
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, TransferCode
from raymart_billing.ledger.posting import Movement, post
from raymart_billing.payout_wallets import NotPayable, NoWallet, PayableWallet, payable_wallets
from raymart_billing.payouts.earnings import EARNED, MOVED, flagged_providers
from raymart_billing.payouts.models import (
    BatchKind,
    BatchState,
    Earning,
    Epoch,
    PayoutBatch,
    PayoutItem,
    UnpaidReason,
)
from raymart_billing.payouts.payable import CHUNK_PROVIDERS, Accounts, lock_accounts
from raymart_billing.payouts.policy import Rules, present_rules
from raymart_billing.solana.addresses import token_account
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.oversight.suspension import withheld_providers

log = structlog.get_logger()

NANO_USD_PER_MICRO_USDC: Final = 1_000
BEING_PLANNED: Final = "its payees are being planned"
"""Why a batch is held while more is to come."""
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('payout_planning', 0))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A provider with earnings in the epoch that are in no batch yet. Amounts are nano-USD."""

    earning_id: UUID
    provider_id: UUID
    earned: int
    """In the epoch, after what refunds took."""
    payable: int
    """The payable balance without what was earned after the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What else decides whether a provider is paid."""

    withheld: frozenset[UUID]
    flagged: frozenset[UUID]
    wallets: Mapping[UUID, PayableWallet | NotPayable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payee:
    """Who is paid how much."""

    candidate: Candidate
    wallet: str
    amount: Money
    """USDC."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a run did."""

    batches: set[UUID] = field(default_factory=set)
    paid: int = 0
    unpaid: Counter[UnpaidReason] = field(default_factory=Counter)


def decide(candidate: Candidate, found: Circumstances, *, minimum: Money) -> Payee | UnpaidReason | None:
    """Who is paid what, or why not; None for who has nothing to be paid. Pure."""
    amount = Money(max(candidate.payable, 0) // NANO_USD_PER_MICRO_USDC, Asset.USDC)
    if not amount and candidate.earned >= 0:
        return None
    if candidate.provider_id in found.withheld:
        return UnpaidReason.SUSPENDED
    if candidate.provider_id in found.flagged:
        return UnpaidReason.FLAGGED_USAGE
    if amount < minimum:
        return UnpaidReason.BALANCE_OWED if candidate.earned < 0 else UnpaidReason.BELOW_MINIMUM
    wallet = found.wallets[candidate.provider_id]
    if isinstance(wallet, NotPayable):
        return _WALLET_REASONS.get(wallet.reason, UnpaidReason.WALLET_UNUSABLE)
    return Payee(candidate=candidate, wallet=wallet.address, amount=amount)


_WALLET_REASONS: Mapping[NoWallet, UnpaidReason] = {
    NoWallet.NONE_CHOSEN: UnpaidReason.NO_WALLET,
    NoWallet.PROOF_WITHDRAWN: UnpaidReason.NO_WALLET,
    NoWallet.COOLING_DOWN: UnpaidReason.WALLET_COOLING_DOWN,
}


def filled(payees: Sequence[Payee], *, room: Money, cap: Money) -> list[list[Payee]]:
    """The payees in order, parted so that the first list takes at most `room` and every other at most `cap`.

    One that is over the cap by itself is alone; its batch cannot be approved until the cap is raised.
    """
    lists: list[list[Payee]] = [[]]
    left = room
    for payee in payees:
        if payee.amount > left and (lists[-1] or left < cap):
            lists.append([])
            left = cap
        lists[-1].append(payee)
        left = max(left - payee.amount, Money(0, Asset.USDC))
    return lists


async def plan_epoch(sessions: Sessions, epoch_id: UUID, *, mint: str, created_by: UUID | None) -> Plan:
    """Put every provider that can be paid for the epoch into a batch, and say of the others why not.

    A repeat plans who could not be paid before, in a further batch. Any number of runs may overlap.
    """
    plan, after = Plan(), 0
    while True:
        async with session_scope(sessions) as session:
            last = await _plan_chunk(session, epoch_id, plan, after=after, mint=mint, created_by=created_by)
        if last is None:
            break
        after = last
    log.info(
        "payouts.planned",
        epoch_id=str(epoch_id),
        batches=len(plan.batches),
        paid=plan.paid,
        unpaid=dict(plan.unpaid),
    )
    return plan


async def _plan_chunk(
    session: AsyncSession, epoch_id: UUID, plan: Plan, *, after: int, mint: str, created_by: UUID | None
) -> int | None:
    """The last account that was looked at; None when there was none left and the batches wait for people."""
    await session.execute(_LOCK)
    due = (await session.execute(_DUE, {"epoch": epoch_id, "after": after, "limit": CHUNK_PROVIDERS})).all()
    if not due:
        await _finish(session, epoch_id)
        return None
    provider_ids = [row.provider_id for row in due]
    accounts = await lock_accounts(session, provider_ids, other=AccountKind.PAYOUT_CLEARING)
    found = Circumstances(
        withheld=await withheld_providers(session, provider_ids),
        flagged=await flagged_providers(session, set(provider_ids)),
        wallets=await payable_wallets(session, provider_ids),
    )
    rules = await present_rules(session)
    payees, reasons = [], dict[UUID, UnpaidReason | None]()
    for candidate in await _candidates(session, epoch_id, list(accounts.payable.values())):
        match decide(candidate, found, minimum=rules.minimum):
            case Payee() as payee:
                payees.append(payee)
                reasons[candidate.earning_id] = None
            case reason:
                reasons[candidate.earning_id] = reason
    await _note_reasons(session, reasons)
    plan.unpaid.update(reason for reason in reasons.values() if reason is not None)
    plan.paid += len(payees)
    if payees:
        planner = Planner(epoch_id=epoch_id, mint=mint, created_by=created_by, rules=rules)
        plan.batches |= await planner.add(session, payees, accounts)
    return int(due[-1].account_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Writes payees into batches of an epoch."""

    epoch_id: UUID
    mint: str
    created_by: UUID | None
    rules: Rules

    async def add(self, session: AsyncSession, payees: Sequence[Payee], accounts: Accounts) -> set[UUID]:
        """Items in the batch that is being planned, or in further ones where it is full, and their money on its way."""
        begun = await self._open_batch(session)
        cap = self.rules.batch_cap
        room = (
            cap
            if begun is None
            else max(cap - Money(begun.total_micro_usdc, Asset.USDC), Money(0, Asset.USDC))
        )
        items, written = list[PayoutItem](), set[UUID]()
        for number, group in enumerate(filled(payees, room=room, cap=cap)):
            if not group:
                continue
            batch = await self._written(session, begun if number == 0 else None, group)
            first = batch.payees - len(group)
            items += [self._item(batch, payee, place) for place, payee in enumerate(group, first)]
            written.add(batch.id)
        session.add_all(items)
        await session.flush()
        await post(session, [_sent(item, accounts) for item in items])
        return written

    async def _open_batch(self, session: AsyncSession) -> PayoutBatch | None:
        query = select(PayoutBatch).where(
            PayoutBatch.epoch_id == self.epoch_id,
            PayoutBatch.state == BatchState.HELD,
            PayoutBatch.hold_reason == BEING_PLANNED,
            PayoutBatch.approved_at.is_(None),
        )
        newest = query.order_by(PayoutBatch.number.desc()).limit(1).with_for_update()
        return (await session.scalars(newest.execution_options(populate_existing=True))).one_or_none()

    async def _written(
        self, session: AsyncSession, batch: PayoutBatch | None, group: Sequence[Payee]
    ) -> PayoutBatch:
        total = sum(payee.amount.amount for payee in group)
        if batch is None:
            batch = PayoutBatch(
                id=new_id(),
                kind=BatchKind.EARNINGS,
                epoch_id=self.epoch_id,
                mint=self.mint,
                state=BatchState.HELD,
                hold_reason=BEING_PLANNED,
                total_micro_usdc=total,
                payees=len(group),
                created_by=self.created_by,
            )
            session.add(batch)
        else:
            batch.total_micro_usdc += total
            batch.payees += len(group)
        await session.flush()
        return batch

    def _item(self, batch: PayoutBatch, payee: Payee, position: int) -> PayoutItem:
        to = token_account(Pubkey.from_string(payee.wallet), Pubkey.from_string(self.mint))
        return PayoutItem(
            id=new_id(),
            batch_id=batch.id,
            position=position,
            provider_id=payee.candidate.provider_id,
            epoch_id=self.epoch_id,
            wallet=payee.wallet,
            token_account=str(to),
            amount_micro_usdc=payee.amount.amount,
        )


def _sent(item: PayoutItem, accounts: Accounts) -> Movement:
    assert item.provider_id is not None, "earnings are a provider's"
    return Movement(
        key=f"payout:{item.id}:sent",
        debit_account_id=accounts.payable[item.provider_id],
        credit_account_id=accounts.other[item.provider_id],
        amount=Money(item.amount_micro_usdc * NANO_USD_PER_MICRO_USDC),
        code=TransferCode.PAYOUT_SENT,
    )


async def _candidates(session: AsyncSession, epoch_id: UUID, account_ids: list[int]) -> list[Candidate]:
    rows = await session.execute(_CANDIDATES, {"epoch": epoch_id, "accounts": account_ids})
    return [
        Candidate(
            earning_id=row.earning_id,
            provider_id=row.provider_id,
            earned=row.earned,
            # What refunds took since then lies in the balance already.
            payable=row.balance - max(int(row.accrued), 0),
        )
        for row in rows
    ]


async def _note_reasons(session: AsyncSession, reasons: Mapping[UUID, UnpaidReason | None]) -> None:
    for reason in (None, *UnpaidReason):
        ids = [earning_id for earning_id, given in reasons.items() if given is reason]
        if ids:
            await session.execute(
                update(Earning)
                .where(Earning.id.in_(ids), Earning.unpaid_reason.is_distinct_from(reason))
                .values(unpaid_reason=reason)
            )


async def _finish(session: AsyncSession, epoch_id: UUID) -> None:
    await session.execute(
        update(PayoutBatch)
        .where(
            PayoutBatch.epoch_id == epoch_id,
            PayoutBatch.state == BatchState.HELD,
            PayoutBatch.hold_reason == BEING_PLANNED,
            PayoutBatch.approved_at.is_(None),
        )
        .values(state=BatchState.PLANNED, hold_reason=None)
    )
    await session.execute(
        update(Epoch)
        .where(Epoch.id == epoch_id, Epoch.planned_at.is_(None))
        .values(planned_at=func.clock_timestamp())
    )


_IN_NO_BATCH = (
    "not exists (select from payout_item i where i.provider_id = e.provider_id and i.epoch_id = e.epoch_id"
    " and i.state <> 'returned')"
)
_DUE = text(f"""
    select a.id as account_id, e.provider_id
      from earning e
      join ledger_account a on a.owner_id = e.provider_id and a.kind = 'provider_payable' and a.asset = 'usd'
     where e.epoch_id = :epoch and a.id > :after and {_IN_NO_BATCH}
     order by a.id
     limit :limit
""")  # noqa: S608 - put together from constants of our own
_CANDIDATES = text(f"""
    select e.id as earning_id, e.provider_id, e.gross_nano_usd - e.clawback_nano_usd as earned,
           a.credits_posted - a.debits_posted - a.debits_pending as balance, s.accrued
      from earning e
      join ledger_account a on a.owner_id = e.provider_id and a.kind = 'provider_payable' and a.asset = 'usd'
      cross join lateral (
        select coalesce(sum(m.change) filter (where m.code in {EARNED}), 0) as accrued
          from ({MOVED.format(after="e.upto_transfer_id")}) m
      ) s
     where e.epoch_id = :epoch and a.id = any (cast(:accounts as bigint[])) and {_IN_NO_BATCH}
     order by a.id
""")  # noqa: S608 - put together from constants of our own
