"""Background work of top-ups in USDC."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select

from raymart_billing.usdc_deposits.models import UsdcScan
from raymart_billing.usdc_deposits.scanning import scan
from raymart_billing.usdc_deposits.sighting import look
from raymart_billing.work import Context, Periodic

TICK_S = 2.0
"""How often a worker asks itself whether a scan is due; the setting `usdc_scan_s` says how often one is."""


async def _scan(context: Context) -> None:
    chain = context.chain
    if chain is not None and await _is_due(context, str(chain.treasury_token_account)):
        await look(context.sessions, chain)
        await scan(context.sessions, chain)


async def _is_due(context: Context, account: str) -> bool:
    # Half a tick less: a scan that took its time must not make every second tick too early.
    pause = timedelta(seconds=context.settings.usdc_scan_s - TICK_S / 2)
    query = select(UsdcScan.scanned_at > func.clock_timestamp() - pause).where(UsdcScan.account == account)
    async with context.sessions() as session:
        return not await session.scalar(query)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="usdc_deposits.scan", handle=_scan, every_s=TICK_S, timeout_s=240.0),
)
