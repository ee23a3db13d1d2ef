"""The trial balance: do the books add up, and do the balances agree with the transfers they are made of?"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind
from raymart_core.money import Asset, Money

FINDINGS_MAX = 100
"""How many accounts of each kind of fault are named; one is enough to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalanceRow:
    """The sums of one kind of account. `balance` = credits - debits, posted."""

    kind: AccountKind
    accounts: int
    debits_posted: Money
    credits_posted: Money
    debits_pending: Money
    credits_pending: Money
    balance: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """An account whose columns differ from the sums of its transfers: stored - recomputed, each."""

    account_id: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int

    @property
    def size(self) -> int:
        """The differences, all counted as positive."""
        differences = (self.debits_posted, self.credits_posted, self.debits_pending, self.credits_pending)
        return sum(map(abs, differences))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalance:
    """The books of one asset at one moment."""

    rows: tuple[TrialBalanceRow, ...]
    debits: Money
    """Of all accounts, posted."""
    credits: Money
    transferred: Money
    """The sum of all posted transfers: what `debits` and `credits` must both be."""
    drifts: tuple[Drift, ...]
    """Accounts that disagree with their transfers; at most 100 are named."""
    uncleared: tuple[int, ...]
    """Clearing accounts that hold money: they pass on within a statement all that they take in. At most 100."""

    @property
    def balanced(self) -> bool:
        """Whether everything agrees; False means that somebody got past the guards."""
        return self.debits == self.credits == self.transferred and not self.drifts and not self.uncleared

    @property
    def drift(self) -> Money:
        """By how much the named accounts and their transfers disagree, all differences counted as positive; zero."""
        return Money(sum(found.size for found in self.drifts), self.debits.asset)


async def trial_balance(session: AsyncSession, *, asset: Asset = Asset.USD) -> TrialBalance:
    """Recompute the books of `asset` from every transfer and compare. Reads all of the ledger, locks nothing.

    One statement, so that all of it is of one moment however busy the ledger is.
    """
    row = (await session.execute(_TRIAL_BALANCE, {"asset": asset.value, "findings_max": FINDINGS_MAX})).one()
    return TrialBalance(
        rows=tuple(
            TrialBalanceRow(
                kind=AccountKind(kind["kind"]),
                accounts=kind["accounts"],
                debits_posted=Money(kind["debits_posted"], asset),
                credits_posted=Money(kind["credits_posted"], asset),
                debits_pending=Money(kind["debits_pending"], asset),
                credits_pending=Money(kind["credits_pending"], asset),
                balance=Money(kind["credits_posted"] - kind["debits_posted"], asset),
            )
            for kind in row.kinds
        ),
        debits=Money(int(row.debits), asset),
        credits=Money(int(row.credits), asset),
        transferred=Money(int(row.transferred), asset),
        drifts=tuple(Drift(**found) for found in row.drift),
        uncleared=tuple(row.uncleared),
    )


# A hold counts as pending while no other row resolves it: recomputed from the transfers alone, not from `open_hold`.
_TRIAL_BALANCE = text(
    """
    with account as (
        select * from ledger_account where asset = :asset
    ), movement as (
        select t.debit_account_id, t.credit_account_id,
               case when t.state = 'posted' then t.amount else 0 end as posted,
               case when t.state = 'pending' and not exists (select from transfer r where r.pending_id = t.id)
                    then t.amount else 0 end as pending
          from transfer t
         where t.state <> 'voided'
    ), recomputed as (
        select side.account_id, sum(side.debits_posted) as debits_posted, sum(side.credits_posted) as credits_posted,
               sum(side.debits_pending) as debits_pending, sum(side.credits_pending) as credits_pending
          from movement
          cross join lateral (values
            (debit_account_id, posted, 0::bigint, pending, 0::bigint),
            (credit_account_id, 0, posted, 0, pending)
          ) side (account_id, debits_posted, credits_posted, debits_pending, credits_pending)
         group by side.account_id
    ), difference as (
        select a.id as account_id,
               a.debits_posted - coalesce(r.debits_posted, 0) as debits_posted,
               a.credits_posted - coalesce(r.credits_posted, 0) as credits_posted,
               a.debits_pending - coalesce(r.debits_pending, 0) as debits_pending,
               a.credits_pending - coalesce(r.credits_pending, 0) as credits_pending
          from account a
          left join recomputed r on r.account_id = a.id
    ), drift as (
        select * from difference
         where (debits_posted, credits_posted, debits_pending, credits_pending) <> (0, 0, 0, 0)
         order by account_id
         limit :findings_max
    ), uncleared as (
        select id from account where kind = 'usage_clearing' and debits_posted <> credits_posted
         order by id
         limit :findings_max
    ), kinds as (
        select kind, count(*) as accounts, sum(debits_posted) as debits_posted, sum(credits_posted) as credits_posted,
               sum(debits_pending) as debits_pending, sum(credits_pending) as credits_pending
          from account
         group by kind
         order by kind
    )
    select (select coalesce(jsonb_agg(to_jsonb(kinds)), '[]') from kinds) as kinds,
           (select coalesce(sum(debits_posted), 0) from account) as debits,
           (select coalesce(sum(credits_posted), 0) from account) as credits,
           (select coalesce(sum(m.posted), 0) from movement m join account a on a.id = m.debit_account_id) as transferred,
           (select coalesce(jsonb_agg(to_jsonb(drift)), '[]') from drift) as drift,
           (select coalesce(array_agg(id), '{}') from uncleared) as uncleared
    """
)
