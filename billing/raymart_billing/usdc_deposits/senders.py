"""What the platform knows of wallets that pay: known to be bad, or an exchange's. Administrators write it down."""

from uuid import UUID

import structlog
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.blocks import checked_reason
from raymart_billing.solana.addresses import parse_address
from raymart_billing.usdc_deposits.models import SenderMark, UsdcSender
from raymart_core.errors import NotFound

log = structlog.get_logger()


async def mark_sender(
    session: AsyncSession, wallet: str, *, mark: SenderMark, reason: str, actor_id: UUID
) -> UsdcSender:
    """Say what a wallet is, from now on; a repeat replaces what was said. Raises: InvalidRequest."""
    address, checked = str(parse_address(wallet, param="wallet")), checked_reason(reason)
    values = {"mark": mark, "reason": checked, "actor_id": actor_id}
    row = insert(UsdcSender).values(wallet=address, **values)
    said = row.on_conflict_do_update(index_elements=["wallet"], set_=values).returning(UsdcSender)
    found: UsdcSender = (await session.scalars(said, execution_options={"populate_existing": True})).one()
    log.warning("usdc_sender.marked", mark=mark.value, actor_id=str(actor_id))
    return found


async def unmark_sender(session: AsyncSession, wallet: str) -> None:
    """Forget what was said of a wallet; what was held stays held. Raises: NotFound."""
    gone = delete(UsdcSender).where(UsdcSender.wallet == wallet).returning(UsdcSender.wallet)
    if await session.scalar(gone) is None:
        raise NotFound(f"nothing is known of the wallet {wallet[:60]!r}", param="wallet")
