"""The ledger, for administrators."""

import strawberry

from raymart_billing import ledger
from raymart_billing.ledger import models
from raymart_graphql.context import Info
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page, PageArguments
from raymart_graphql.scalars import Money
from raymart_graphql.schema.admin.types import LedgerAccount, TrialBalance, TrialBalanceRow

LEDGER_ACCOUNTS = Listing(
    name="ledger_accounts",
    entity=models.LedgerAccount,
    key=models.LedgerAccount.id,
    show=LedgerAccount.of,
)


@strawberry.type
class AdminQuery:
    """Root fields of the domain."""

    @strawberry.field(
        description="Every account of the ledger, oldest first. For administrators.", extensions=[PageArguments()]
    )
    async def ledger_accounts(self, info: Info, page: Page) -> Connection[LedgerAccount]:
        """Accounts by number."""
        async with info.context.reading.session() as session:
            return await page_of(session, LEDGER_ACCOUNTS, page)

    @strawberry.field(description="Whether the books balance. For administrators.")
    async def trial_balance(self, info: Info) -> TrialBalance:
        """Sums of the whole ledger."""
        async with info.context.reading.session() as session:
            return _shown(await ledger.trial_balance(session))


def _shown(found: "ledger.TrialBalance") -> TrialBalance:
    return TrialBalance(
        rows=[
            TrialBalanceRow(
                kind=row.kind,
                accounts=row.accounts,
                debits=Money.of(row.debits),
                credits=Money.of(row.credits),
                balance=Money.of(row.credits - row.debits),
            )
            for row in found.rows
        ],
        debits=Money.of(found.debits),
        credits=Money.of(found.credits),
        balanced=found.balanced,
        drift=Money.of(found.drift),
    )
