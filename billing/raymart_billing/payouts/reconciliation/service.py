"""Reconciliations as people and the worker ask for them: begun by a row, their findings kept, payouts stopped by them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import Boolean, func, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.policy_models import PayoutSwitch, SwitchSource
from raymart_billing.payouts.reconciliation.comparison import Comparer, Comparison, Opening
from raymart_billing.payouts.reconciliation.differences import Difference
from raymart_billing.payouts.reconciliation.models import (
    REASON_CHARACTERS_MAX,
    SIDE_CHARACTERS_MAX,
    ReconciliationDifference,
    ReconciliationRun,
    RunTrigger,
)
from raymart_billing.work import outbox
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

RUN_TASK = "payouts.reconcile"
TELL_TASK = "payouts.tell_differences"
NIGHTLY_LOOKS_BACK = timedelta(days=35)
"""A month-end, and then some: each transaction is looked at in many nights."""
ERROR_CHARACTERS_MAX = 500


async def ask_for_run(
    session: AsyncSession,
    *,
    trigger: RunTrigger,
    since: datetime | None = None,
    requested_by: UUID | None = None,
    key: str | None = None,
) -> ReconciliationRun:
    """A run that a worker will do after this transaction's commit. `key`: asked for once (see `outbox.enqueue`)."""
    run = await begin_run(session, trigger=trigger, since=since, requested_by=requested_by)
    await outbox.enqueue(session, task=RUN_TASK, subject=str(run.id), key=key or str(run.id))
    return run


async def begin_run(
    session: AsyncSession,
    *,
    trigger: RunTrigger,
    since: datetime | None = None,
    requested_by: UUID | None = None,
) -> ReconciliationRun:
    """The row of a run that has yet to happen."""
    run = ReconciliationRun(trigger=trigger, since=since, requested_by=requested_by)
    session.add(run)
    await session.flush()
    await session.refresh(run)
    return run


async def run_reconciliation(
    sessions: Sessions, comparer: Comparer, run_id: UUID, *, treasury: str, genesis_hash: str, endpoints: int
) -> ReconciliationRun:
    """Do the run `run_id` and keep what it found; a run that is done already is returned as it is.

    New differences stop payouts and are told by mail, in the transaction that keeps them. No transaction is open while
    the chain is read. Raises: RpcError; the run is then still to be done.
    """
    async with session_scope(sessions) as session:
        run = await _run_of(session, run_id)
        if run.finished_at is not None:
            return run
        opening = await _opening(session, since=run.since, treasury=treasury)
    found = await comparer.compare(opening)
    async with session_scope(sessions) as session:
        run = await _run_of(session, run_id, lock=True)
        if run.finished_at is None:
            run.treasury, run.genesis, run.endpoints = treasury, genesis_hash, endpoints
            run.opening_run_id = None if opening is None else opening.run_id
            await _keep(session, run, found)
    return run


async def fail_run(session: AsyncSession, run_id: UUID, error: str) -> None:
    """Note that the run could not be done, and will not be tried again; nothing is known then."""
    failed = (
        update(ReconciliationRun)
        .where(ReconciliationRun.id == run_id, ReconciliationRun.finished_at.is_(None))
        .values(error=error[:ERROR_CHARACTERS_MAX], finished_at=func.clock_timestamp())
    )
    await session.execute(failed)


async def resolve_difference(
    session: AsyncSession, *, number: int, reason: str, resolved_by: UUID | None
) -> ReconciliationDifference:
    """Close a difference with the reason why it is none or is no longer. The last one lets payouts go on.

    Locks the difference. Raises: NotFound, Conflict (resolved already), InvalidRequest.
    """
    if not 1 <= len(reason.strip()) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(reason.strip())} characters; give 1 to {REASON_CHARACTERS_MAX}", param="reason"
        )
    # One after the other, so that one of them is the last.
    await session.execute(text("select pg_advisory_xact_lock(hashtext('reconciliation.resolve'))"))
    wanted = select(ReconciliationDifference).where(ReconciliationDifference.number == number)
    difference = (await session.scalars(wanted.with_for_update())).one_or_none()
    if difference is None:
        raise NotFound(f"no difference {number}")
    if difference.resolved_at is not None:
        raise Conflict(f"it was resolved at {difference.resolved_at:%Y-%m-%d %H:%M}: {difference.reason}")
    difference.resolved_at = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    difference.resolved_by, difference.reason = resolved_by, reason.strip()
    await session.flush()
    if await open_differences(session) == 0:
        await _resume(session, resolved_by=resolved_by, reason=difference.reason)
    log.info("reconciliation.resolved", number=number, kind=difference.kind.value)
    return difference


async def open_differences(session: AsyncSession) -> int:
    """How many nobody has given a reason for."""
    counted = select(func.count()).where(ReconciliationDifference.resolved_at.is_(None))
    return int((await session.execute(counted)).scalar_one())


async def _run_of(session: AsyncSession, run_id: UUID, *, lock: bool = False) -> ReconciliationRun:
    run = await session.get(ReconciliationRun, run_id, with_for_update=lock)
    if run is None:
        raise NotFound(f"no reconciliation {run_id}")
    return run


async def _opening(session: AsyncSession, *, since: datetime | None, treasury: str) -> Opening | None:
    """The newest whole run of this treasury that began before `since`; none reads everything."""
    if since is None:
        return None
    newest = (
        select(ReconciliationRun)
        .where(
            ReconciliationRun.finished_at.is_not(None),
            ReconciliationRun.error.is_(None),
            ReconciliationRun.treasury == treasury,
            ReconciliationRun.created_at <= since,
        )
        .order_by(ReconciliationRun.created_at.desc())
        .limit(1)
    )
    run = await session.scalar(newest)
    if run is None:
        return None
    assert run.slot is not None, "a whole run has its figures"
    assert run.balance_micro_usdc is not None, "a whole run has its figures"
    return Opening(
        run_id=run.id, slot=run.slot, balance_micro_usdc=run.balance_micro_usdc, began_at=run.created_at
    )


async def _keep(session: AsyncSession, run: ReconciliationRun, found: Comparison) -> None:
    run.slot, run.lamports, run.fees_lamports = found.slot, found.lamports, found.fees_lamports
    run.opening_micro_usdc, run.balance_micro_usdc = found.opening_micro_usdc, found.balance_micro_usdc
    run.parts, run.transactions = found.parts, found.transactions
    run.differences = len(found.differences)
    run.finished_at = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    await session.flush()
    new = await _keep_differences(session, run, found.differences)
    await _note_gone(session, run)
    if new:
        await _pause(
            session, f"reconciliation {run.number} found {new} new differences between chain and ledger"
        )
        await outbox.enqueue(session, task=TELL_TASK, subject=str(run.id), key=str(run.id))
    tell = log.warning if new else log.info
    tell(
        "reconciliation.done",
        number=run.number,
        parts=run.parts,
        transactions=run.transactions,
        differences=run.differences,
        new=new,
    )


async def _keep_differences(
    session: AsyncSession, run: ReconciliationRun, found: Sequence[Difference]
) -> int:
    """Write each one down; returns how many are not known from an earlier run."""
    new = 0
    for difference in found:
        made = insert(ReconciliationDifference).values(
            id=new_id(),
            run_id=run.id,
            last_run_id=run.id,
            kind=difference.kind,
            subject_table=difference.table,
            subject=difference.row,
            expected=difference.expected[:SIDE_CHARACTERS_MAX],
            found=difference.found[:SIDE_CHARACTERS_MAX],
        )
        known = made.on_conflict_do_update(
            index_elements=["kind", "subject_table", "subject", "expected", "found"],
            index_where=text("gone_at is null"),
            set_={"last_run_id": run.id},
        ).returning(literal_column("xmax = 0", Boolean))
        new += bool((await session.execute(known)).scalar_one())
    return new


async def _note_gone(session: AsyncSession, run: ReconciliationRun) -> None:
    """Those that this run would have found again and did not: only where it looked as far back as who found them."""
    began = select(ReconciliationRun.since).where(ReconciliationRun.id == ReconciliationDifference.run_id)
    gone = update(ReconciliationDifference).where(
        ReconciliationDifference.gone_at.is_(None), ReconciliationDifference.last_run_id != run.id
    )
    if run.since is not None:
        gone = gone.where(began.scalar_subquery() >= run.since)
    await session.execute(gone.values(gone_at=func.clock_timestamp()))


async def _pause(session: AsyncSession, reason: str) -> None:
    paused = insert(PayoutSwitch).values(id=new_id(), source=SwitchSource.RECONCILIATION, reason=reason)
    await session.execute(
        paused.on_conflict_do_nothing(
            index_elements=[PayoutSwitch.source], index_where=text("resumed_at is null")
        )
    )


async def _resume(session: AsyncSession, *, resolved_by: UUID | None, reason: str) -> None:
    resumed = (
        update(PayoutSwitch)
        .where(PayoutSwitch.source == SwitchSource.RECONCILIATION, PayoutSwitch.resumed_at.is_(None))
        .values(resumed_at=func.clock_timestamp(), resumed_by=resolved_by, resumed_reason=reason)
    )
    await session.execute(resumed)
