"""Deletes what was kept of prompts and completions, once its time is over."""

from collections.abc import Sequence

import structlog

from raymart_billing.work import Context, Periodic
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.retention.service import DELETED_AT_ONCE_MAX, delete_expired

log = structlog.get_logger(__name__)


async def _delete(context: Context) -> None:
    deleted = 0
    while True:
        async with session_scope(context.sessions) as session:
            batch = await delete_expired(session)
        deleted += batch
        if batch < DELETED_AT_ONCE_MAX:
            break
    if deleted:
        log.info("retention.expired", exchanges=deleted)


PERIODICS: Sequence[Periodic] = (Periodic(name="retention.delete_expired", handle=_delete, every_s=60.0),)
