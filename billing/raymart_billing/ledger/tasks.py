"""Background work of the ledger: seals every few seconds, a check for drift every few minutes, a snapshot a day."""

import time
from collections.abc import Sequence

import structlog

from raymart_billing.ledger.proof_models import LedgerCheckKind
from raymart_billing.ledger.refusals import LedgerBroken
from raymart_billing.ledger.seal import seal
from raymart_billing.ledger.snapshots import check_drift, latest_checks, record_check, take_snapshot
from raymart_billing.work import Context, Periodic
from raymart_marketplace.db.session import session_scope

log = structlog.get_logger()


async def seal_transfers(context: Context) -> None:
    """Seal what is settled. A chain that is not the one that was sealed is an alarm, and nothing more is sealed."""
    key = context.settings.ledger_seal_key
    if key is None:
        return
    begun = time.monotonic()
    finding = None
    try:
        async with context.pool.connection() as connection:
            await seal(
                connection,
                key=key.get_secret_value().encode(),
                head_file=context.settings.ledger_head_file,
            )
    except LedgerBroken as error:
        finding = str(error)
        log.exception("ledger.broken", finding=finding)
    await _note_seal(context, finding, duration_s=time.monotonic() - begun)


async def _note_seal(context: Context, finding: str | None, *, duration_s: float) -> None:
    """Keep what the sealer met when that is news: the run every few seconds is not."""
    async with session_scope(context.sessions) as session:
        known = {check.kind: check.finding for check in await latest_checks(session)}
        if known.get(LedgerCheckKind.SEAL) != finding:
            findings = [finding] if finding is not None else []
            await record_check(session, LedgerCheckKind.SEAL, findings=findings, duration_s=duration_s)


async def reconcile_balances(context: Context) -> None:
    """Compare balances with the last snapshot and what came since."""
    async with session_scope(context.sessions) as session:
        await check_drift(session)


async def keep_snapshot(context: Context) -> None:
    """Take today's snapshot, if there is none."""
    async with session_scope(context.sessions) as session:
        await take_snapshot(session)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="ledger.seal", handle=seal_transfers, every_s=5.0),
    Periodic(name="ledger.reconcile", handle=reconcile_balances, every_s=300.0, timeout_s=240.0),
    # Due often and nearly always a no-op, so that a day's snapshot is minutes late at most.
    Periodic(name="ledger.snapshot", handle=keep_snapshot, every_s=600.0, timeout_s=240.0),
)
