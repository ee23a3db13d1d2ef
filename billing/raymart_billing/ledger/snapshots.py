"""Daily snapshots of all balances, and the cheap check they allow: snapshot + transfers since = balances now."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.effects import Mismatch, effects
from raymart_billing.ledger.proof_models import LedgerCheck, LedgerCheckKind, LedgerSnapshot, TransferSeal

log = structlog.get_logger()

FINDINGS_MAX = 100

_TAKE = text("select ledger_take_snapshot()")
_SINCE = """
    (cast(:horizon as text) is null
     or (t.xact_id >= pg_snapshot_xmin(cast(:horizon as pg_snapshot))::text::bigint
         and not pg_visible_in_snapshot(t.xact_id::text::xid8, cast(:horizon as pg_snapshot))))
"""
_RECONCILE = text(
    f"""
    with moved as ({effects(of=_SINCE)})
    select a.id, a.kind,
           array[a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending] as stored,
           sums.recomputed
      from ledger_account a
      left join lateral (
        select * from account_snapshot s where s.account_id = a.id and s.day <= :day order by s.day desc limit 1
      ) base on true
      left join moved m on m.account_id = a.id
      cross join lateral (select array[
        coalesce(base.debits_posted, 0) + coalesce(m.debits_posted, 0),
        coalesce(base.credits_posted, 0) + coalesce(m.credits_posted, 0),
        coalesce(base.debits_pending, 0) + coalesce(m.debits_pending, 0),
        coalesce(base.credits_pending, 0) + coalesce(m.credits_pending, 0)
      ] as recomputed) sums
     where array[a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending]::numeric[] <> sums.recomputed
     order by a.id
     limit {FINDINGS_MAX}
    """  # noqa: S608 - constants of this module
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Whether the balances are the last snapshot plus what was transferred since."""

    day: date | None
    """Of the snapshot; None before the first, when all transfers are counted."""
    drifts: Sequence[Mismatch]
    """Accounts that differ, at most 100."""


async def take_snapshot(session: AsyncSession) -> date | None:
    """Keep today's balances (UTC, by the database's clock); None when today has its snapshot already.

    Locks no account, and costs one pass over the accounts; only those that changed get a row. The transaction must not
    have posted anything.
    """
    day: date | None = (await session.execute(_TAKE)).scalar_one()
    if day is not None:
        log.info("ledger.snapshot_taken", day=day.isoformat())
    return day


async def reconcile(session: AsyncSession) -> Reconciliation:
    """Compare each balance with the last snapshot and the transfers since. Locks nothing; reads no older transfer."""
    last = (
        await session.execute(
            select(LedgerSnapshot.day, LedgerSnapshot.horizon).order_by(LedgerSnapshot.day.desc()).limit(1)
        )
    ).one_or_none()
    day, horizon = (last.day, last.horizon) if last is not None else (None, None)
    rows = await session.execute(_RECONCILE, {"day": day or date.min, "horizon": horizon})
    return Reconciliation(day=day, drifts=[Mismatch.of(tuple(row)) for row in rows])


async def check_drift(session: AsyncSession) -> Reconciliation:
    """`reconcile`, kept as a row of `ledger_check`; a drift is also an error in the log: the alarm."""
    begun = time.monotonic()
    found = await reconcile(session)
    for drift in found.drifts:
        log.error("ledger.drifted", account_id=drift.account_id, drift=str(drift))
    await record_check(
        session,
        LedgerCheckKind.RECONCILE,
        findings=[str(drift) for drift in found.drifts],
        duration_s=time.monotonic() - begun,
    )
    return found


async def record_check(
    session: AsyncSession, kind: LedgerCheckKind, *, findings: Sequence[str], duration_s: float
) -> LedgerCheck:
    """Keep what a check found."""
    check = LedgerCheck(
        kind=kind,
        duration_ms=round(duration_s * 1_000),
        findings=len(findings),
        finding=findings[0] if findings else None,
    )
    session.add(check)
    await session.flush()
    return check


async def latest_checks(session: AsyncSession) -> Sequence[LedgerCheck]:
    """The newest check of each kind; one with findings is an alarm that stands."""
    newest = select(LedgerCheck).distinct(LedgerCheck.kind).order_by(LedgerCheck.kind, LedgerCheck.id.desc())
    return (await session.scalars(newest)).all()


async def latest_seal(session: AsyncSession) -> TransferSeal | None:
    """The newest link of the chain of seals; None before the first."""
    newest = select(TransferSeal).order_by(TransferSeal.position.desc()).limit(1)
    return (await session.scalars(newest)).one_or_none()
