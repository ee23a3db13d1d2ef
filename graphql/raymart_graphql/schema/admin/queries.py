"""The ledger, for administrators."""

import strawberry

from raymart_billing import ledger
from raymart_billing.ledger import models
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.admin.types import LedgerAccount, TrialBalance

LEDGER_ACCOUNTS = Listing(
    name="ledger_accounts",
    entity=models.LedgerAccount,
    key=models.LedgerAccount.id,
    show=LedgerAccount.of,
)


@strawberry.type
class AdminQuery:
    """Root fields of the domain."""

    @listed("Every account of the ledger, oldest first. For administrators.")
    async def ledger_accounts(self, info: Info, page: Page) -> Connection[LedgerAccount]:
        """Accounts by number."""
        async with info.context.reading.session() as session:
            return await page_of(session, LEDGER_ACCOUNTS, page)

    @resolved("Whether the books balance. For administrators.")
    async def trial_balance(self, info: Info) -> TrialBalance:
        """Sums of the whole ledger."""
        async with info.context.reading.session() as session:
            return TrialBalance.of(await ledger.trial_balance(session))
