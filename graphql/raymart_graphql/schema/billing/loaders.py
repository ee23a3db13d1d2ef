"""Loaders of balances, debts and earnings."""

from uuid import UUID

from strawberry.dataloader import DataLoader

from raymart_billing.credits import Parts, promotional_parts
from raymart_billing.ledger import balance_of
from raymart_billing.ledger import models as ledger
from raymart_billing.ledger.models import AccountKind
from raymart_core.money import ZERO
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.scalars import Money
from raymart_graphql.schema.billing.types import Balance, Earnings


class BillingLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.balance_of_organization = self._accounts(AccountKind.CUSTOMER_BALANCE, Balance.of)
        self.parts_of_balance: DataLoader[UUID, Parts] = DataLoader(load_fn=self._parts)
        self.owed_by_organization = self._accounts(AccountKind.CUSTOMER_RECEIVABLE, _owed)
        self.reserve_of_provider = self._accounts(AccountKind.PROVIDER_RESERVE, _held)
        self.payouts_of_provider = self._accounts(AccountKind.PAYOUT_CLEARING, _held)
        self.earnings_of_provider = self._accounts(AccountKind.PROVIDER_PAYABLE, Earnings.of)

    async def _parts(self, organization_ids: list[UUID]) -> list[Parts]:
        async with self._reading.session() as session:
            found = await promotional_parts(session, organization_ids)
        return [found[organization_id] for organization_id in organization_ids]


def _held(account: ledger.LedgerAccount | None) -> Money:
    return Money.of(balance_of(account) if account else ZERO)


def _owed(account: ledger.LedgerAccount | None) -> Money:
    """A receivable's balance is negative by what is owed."""
    return Money.of(ZERO - balance_of(account) if account else ZERO)
