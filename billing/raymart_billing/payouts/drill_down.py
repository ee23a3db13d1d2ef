"""From a payee of a batch to the usage that it is paid for: the transfers in the range of the epoch's earning."""

from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, LedgerAccount, Transfer, TransferCode
from raymart_billing.payouts.models import Earning, PayoutBatch, PayoutItem
from raymart_core.errors import NotFound
from raymart_core.money import Asset


async def usage_listing_of(
    session: AsyncSession, *, batch_number: int, position: int
) -> tuple[ColumnElement[bool], ...]:
    """What the transfers of usage have in common that the payee is paid for in its epoch. Raises: NotFound."""
    query = (
        select(LedgerAccount.id, Earning.after_transfer_id, Earning.upto_transfer_id)
        .select_from(PayoutItem)
        .join(PayoutBatch, PayoutBatch.id == PayoutItem.batch_id)
        .join(
            Earning,
            (Earning.provider_id == PayoutItem.provider_id) & (Earning.epoch_id == PayoutItem.epoch_id),
        )
        .join(
            LedgerAccount,
            (LedgerAccount.owner_id == PayoutItem.provider_id)
            & (LedgerAccount.kind == AccountKind.PROVIDER_PAYABLE)
            & (LedgerAccount.asset == Asset.USD),
        )
        .where(PayoutBatch.number == batch_number, PayoutItem.position == position)
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        raise NotFound(f"batch {batch_number} pays no provider at position {position}", param="position")
    account_id, after_id, upto_id = found
    return (
        Transfer.credit_account_id == account_id,
        Transfer.id > after_id,
        Transfer.id <= upto_id,
        Transfer.code == TransferCode.USAGE_EARNING,
    )


def usage_of(key: str) -> UUID | None:
    """Id of the usage record that the transfer with this key books; None for a key of another kind."""
    kind, _, rest = key.partition(":")
    try:
        return UUID(rest.partition(":")[0]) if kind == "usage" else None
    except ValueError:
        return None
