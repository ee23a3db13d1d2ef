"""Background work of the audit log: seals every few seconds."""

from collections.abc import Sequence

import structlog

from raymart_billing.audit.seal import AuditBroken, seal
from raymart_billing.work import Context, Periodic

log = structlog.get_logger()


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


PERIODICS: Sequence[Periodic] = (Periodic(name="audit.seal", handle=seal_entries, every_s=5.0),)
