"""Deletes pictures that were kept for their URLs, once those are no good any more."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from raymart_billing.work import Context, Periodic
from raymart_core.clock import now
from raymart_core.errors import Unavailable
from raymart_marketplace.objects import Objects, open_objects
from raymart_marketplace.objects.keys import IMAGES_PREFIX

log = structlog.get_logger(__name__)


async def expire_pictures(objects: Objects, *, ttl_s: float) -> int:
    """Delete every picture older than `ttl_s` seconds; how many. Safe to run twice. Raises: Unavailable."""
    before = now() - timedelta(seconds=ttl_s)
    deleted = 0
    async for page in objects.list(IMAGES_PREFIX):
        old = [each.key for each in page if each.modified_at < before]
        await objects.delete(old)
        deleted += len(old)
    return deleted


async def _expire(context: Context) -> None:
    try:
        deleted = await expire_pictures(open_objects(context.settings), ttl_s=context.settings.images_ttl_s)
    except Unavailable as error:
        # Without a place for files there are none; a store that is away is asked again at the next run.
        log.info("pictures.not_expired", reason=error.message)
        return
    if deleted:
        log.info("pictures.expired", deleted=deleted)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="pictures.expire", handle=_expire, every_s=600.0, timeout_s=240.0),
)
