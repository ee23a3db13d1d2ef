"""Balances and earnings."""

import strawberry

from raymart_billing.ledger import LedgerAccount, balance_of
from raymart_core.money import ZERO
from raymart_core.money import Money as Amount
from raymart_graphql.scalars import Money


@strawberry.type(description="What an organization has to spend.")
class Balance:
    """`available` = `posted` - `pending`."""

    posted: Money = strawberry.field(description="Credit that came in less what was billed.")
    pending: Money = strawberry.field(description="Held for requests that are running.")
    available: Money = strawberry.field(description="What new requests may hold.")

    @classmethod
    def of(cls, account: LedgerAccount | None) -> "Balance":
        """The balance of a customer's account; zero without one."""
        posted = balance_of(account) if account else ZERO
        pending = Amount(account.debits_pending, account.asset) if account else ZERO
        return cls(posted=Money.of(posted), pending=Money.of(pending), available=Money.of(posted - pending))


@strawberry.type(description="What a provider has earned.")
class Earnings:
    """Sums over the provider's accounts in the ledger."""

    payable: Money = strawberry.field(description="Earned and not yet paid out.")

    @classmethod
    def of(cls, account: LedgerAccount | None) -> "Earnings":
        """What is in a provider's account; zero without one."""
        return cls(payable=Money.of(balance_of(account) if account else ZERO))
