"""Balances and earnings."""

import strawberry

from raymart_billing import ledger
from raymart_graphql.scalars import Money


@strawberry.type(description="What an organization has to spend.")
class Balance:
    """`available` = `posted` - `pending`."""

    posted: Money = strawberry.field(description="Credit that came in less what was billed.")
    pending: Money = strawberry.field(description="Held for requests that are running.")
    available: Money = strawberry.field(description="What new requests may hold.")

    @classmethod
    def of(cls, balance: ledger.Balance) -> "Balance":
        """`balance` as the API shows it."""
        return cls(
            posted=Money.of(balance.posted),
            pending=Money.of(balance.pending),
            available=Money.of(balance.available),
        )


@strawberry.type(description="What a provider has earned.")
class Earnings:
    """Sums over the provider's accounts in the ledger."""

    payable: Money = strawberry.field(description="Earned and not yet paid out.")
