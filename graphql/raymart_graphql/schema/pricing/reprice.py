"""Prices that were changed here are seen by the next request here; other processes read them within seconds."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_marketplace.supply.directory import Directory

log = structlog.get_logger()

REPRICE_TIMEOUT_S = 5.0


async def reprice(directory: Directory) -> None:
    """Let the next request see the change, which is committed: it stands even when this cannot be done."""
    try:
        async with asyncio.timeout(REPRICE_TIMEOUT_S):
            await directory.refresh()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        # The directory reads prices again by itself every few seconds.
        log.warning("offer.reprice_delayed", error=type(error).__name__)
