"""Background work of the audit log: seals every few seconds, and once a day it forgets old addresses."""

from collections.abc import Sequence

import structlog

from raymart_billing.audit.seal import AuditBroken, seal
from raymart_billing.work import Context, Periodic

log = structlog.get_logger()

_FORGET = b"select audit_forget_origins(null, null, clock_timestamp() - make_interval(days => %s))"


async def seal_entries(context: Context) -> None:
    """Seal what is settled. A chain that is not the one that was sealed is an alarm in the log and of the work queue.

    Raises: AuditBroken.
    """
    key = context.settings.ledger_seal_key
    if key is None:
        return
    try:
        async with context.pool.connection() as connection:
            await seal(
                connection, key=key.get_secret_value().encode(), head_file=context.settings.audit_head_file
            )
    except AuditBroken as error:
        log.exception("audit.broken", finding=str(error))
        raise


async def forget_addresses(context: Context) -> None:
    """Forget from where people acted longer ago than `audit_address_days`; the seals cover digests and hold."""
    async with context.pool.connection() as connection:
        row = await (await connection.execute(_FORGET, (context.settings.audit_address_days,))).fetchone()
    assert row is not None, "a count is a row"
    if row[0]:
        log.info("audit.addresses_forgotten", entries=row[0])


PERIODICS: Sequence[Periodic] = (
    Periodic(name="audit.seal", handle=seal_entries, every_s=5.0),
    Periodic(name="audit.forget_addresses", handle=forget_addresses, every_s=86_400.0, timeout_s=240.0),
)
