"""Run a handler while its lease is renewed; stop it when the lease is lost or its time is up."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from raymart_billing.connections import OUTAGE, Connection, Pool
from raymart_billing.work.claims import RENEW_S
from raymart_billing.work.context import LeaseLost

log = structlog.get_logger()

Renew = Callable[[Connection], Awaitable[bool]]
"""Extends a lease; False when it is no longer ours."""


async def run_leased(handler: Awaitable[None], *, pool: Pool, renew: Renew, timeout_s: float) -> None:
    """Run `handler` to its end. Raises: LeaseLost, TimeoutError after `timeout_s`, and whatever it raises."""
    work = asyncio.ensure_future(handler)
    keeper = asyncio.create_task(_until_lost(pool, renew))
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            await asyncio.wait({work, keeper}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise LeaseLost("the row is another worker's by now, or was cancelled")
            await work
    except TimeoutError as error:
        if deadline.expired():
            raise TimeoutError(f"no end within {timeout_s:g} s") from error
        raise
    finally:
        work.cancel()
        keeper.cancel()
        await asyncio.gather(work, keeper, return_exceptions=True)


async def _until_lost(pool: Pool, renew: Renew) -> None:
    """Renew until the lease is lost. An outage loses none: nobody else can take the row during it either."""
    while True:
        await asyncio.sleep(RENEW_S)
        try:
            async with asyncio.timeout(RENEW_S), pool.connection() as connection:
                if not await renew(connection):
                    return
        except OUTAGE as error:
            log.warning("work.renewal_late", error=type(error).__name__)
