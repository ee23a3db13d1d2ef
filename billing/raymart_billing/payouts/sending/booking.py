"""What the ledger learns when a part is final: one movement for each item, under the item's own key.

Each kind of batch keeps its money elsewhere until then, so each has its own booking. A repeat books nothing twice: the
keys are those of the items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, TransferCode
from raymart_billing.ledger.posting import Movement, open_account
from raymart_billing.payouts.models import BatchKind
from raymart_core.money import Money

NANO_PER_MICRO = 1_000

_ITEMS = text("""
    select id, provider_id, deposit_id, amount_micro_usdc from payout_item where id = any(:ids) order by id
""")

_ACCOUNTS = text("""
    select owner_id, ledger_open_account(:kind, owner_id, 'usd') as account_id
      from unnest(cast(:owners as uuid[])) as owner_id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedItem:
    """An item whose fate is decided."""

    id: UUID
    provider_id: UUID | None
    deposit_id: UUID | None
    amount_micro_usdc: int

    @property
    def amount(self) -> Money:
        """In dollars: a USDC is one."""
        return Money(self.amount_micro_usdc * NANO_PER_MICRO)


class Booking(Protocol):
    """How one kind of batch is booked."""

    async def settled(self, session: AsyncSession, items: Sequence[BookedItem]) -> Sequence[Movement]:
        """What to post for items that the chain has paid; writes the kind's own rows beside it."""
        ...

    async def returned(self, session: AsyncSession, items: Sequence[BookedItem]) -> Sequence[Movement]:
        """What to post for items that can never land any more."""
        ...


class EarningsBooking:
    """Providers: their money waits in payout_clearing since it was planned."""

    async def settled(self, session: AsyncSession, items: Sequence[BookedItem]) -> Sequence[Movement]:
        """payout_clearing -> external_usdc."""
        cash = await open_account(session, AccountKind.EXTERNAL_USDC)
        clearing = await _accounts(session, AccountKind.PAYOUT_CLEARING, items)
        return [
            Movement(
                key=f"payout:{item.id}:settled",
                debit_account_id=clearing[item.id],
                credit_account_id=cash,
                amount=item.amount,
                code=TransferCode.PAYOUT_SETTLED,
            )
            for item in items
        ]

    async def returned(self, session: AsyncSession, items: Sequence[BookedItem]) -> Sequence[Movement]:
        """payout_clearing -> provider_payable."""
        clearing = await _accounts(session, AccountKind.PAYOUT_CLEARING, items)
        payable = await _accounts(session, AccountKind.PROVIDER_PAYABLE, items)
        return [
            Movement(
                key=f"payout:{item.id}:returned",
                debit_account_id=clearing[item.id],
                credit_account_id=payable[item.id],
                amount=item.amount,
                code=TransferCode.PAYOUT_RETURNED,
            )
            for item in items
        ]


Bookings = Mapping[BatchKind, Booking]
"""The booking of each kind of batch."""


async def booked_items(session: AsyncSession, ids: Sequence[UUID]) -> Sequence[BookedItem]:
    """The items of these ids."""
    rows = await session.execute(_ITEMS, {"ids": list(ids)})
    return [
        BookedItem(
            id=row.id,
            provider_id=row.provider_id,
            deposit_id=row.deposit_id,
            amount_micro_usdc=row.amount_micro_usdc,
        )
        for row in rows
    ]


async def _accounts(
    session: AsyncSession, kind: AccountKind, items: Sequence[BookedItem]
) -> Mapping[UUID, int]:
    """The provider's account of `kind`, by item, in one statement for all."""
    providers = sorted({item.provider_id for item in items if item.provider_id is not None})
    rows = await session.execute(_ACCOUNTS, {"kind": kind.value, "owners": providers})
    found: dict[UUID, int] = {row.owner_id: row.account_id for row in rows}
    return {item.id: found[item.provider_id] for item in items if item.provider_id is not None}
