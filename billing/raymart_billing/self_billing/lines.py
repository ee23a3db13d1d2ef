"""What the ledger booked on a provider's account in a range, as lines: one for each day and kind of booking."""

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import TransferCode

SUPPLIES = frozenset({TransferCode.USAGE_EARNING, TransferCode.REFUND_CLAWBACK, TransferCode.REVERSAL})
"""Bookings about what was supplied; all others are about how it is paid. The trigger of the table knows the same three."""
_WORDS = {
    TransferCode.USAGE_EARNING: "Inference that was supplied",
    TransferCode.REFUND_CLAWBACK: "Given back for requests that were refunded",
    TransferCode.REVERSAL: "Corrections of earlier bookings",
    TransferCode.RESERVE_KEPT: "Holdback kept",
    TransferCode.RESERVE_RELEASED: "Holdback released",
    TransferCode.PAYOUT_SENT: "Paid out in USDC",
    TransferCode.PAYOUT_RETURNED: "Payment that could not arrive, back on the balance",
}
_BOOKED = text(
    """
    with account as (
        select id from ledger_account where kind = 'provider_payable' and owner_id = :provider and asset = 'usd'
    )
    select (t.created_at at time zone 'UTC')::date as day, t.code, count(*) as transfers,
           sum(case when t.credit_account_id = account.id then t.amount else -t.amount end)::bigint as amount
      from account
      join transfer t on t.debit_account_id = account.id or t.credit_account_id = account.id
     where t.state = 'posted' and t.id > :after and t.id <= :up_to
     group by day, t.code
     order by day, t.code
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One day's bookings of one kind."""

    day: date
    """UTC, as the ledger booked it."""
    code: str
    """The ledger's transfer code."""
    description: str
    transfers: int
    amount: int
    """Change of the provider's balance, nano-USD."""

    @property
    def is_supply(self) -> bool:
        """Whether it is about what was supplied."""
        return self.code in SUPPLIES

    def stored(self) -> dict[str, Any]:
        """As the document keeps it."""
        return asdict(self) | {"day": self.day.isoformat()}

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "Line":
        """What `stored` wrote."""
        return cls(**(stored | {"day": date.fromisoformat(stored["day"])}))


async def read_lines(
    session: AsyncSession, provider_id: UUID, *, after_transfer_id: int, up_to_transfer_id: int
) -> list[Line]:
    """The lines of a range of the provider's payable account."""
    found = await session.execute(
        _BOOKED, {"provider": provider_id, "after": after_transfer_id, "up_to": up_to_transfer_id}
    )
    return [
        Line(
            day=row.day,
            code=row.code,
            description=_WORDS.get(row.code, "Other bookings"),
            transfers=row.transfers,
            amount=row.amount,
        )
        for row in found
    ]
