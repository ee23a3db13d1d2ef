"""What administrators look at: payments that wait for a decision, all of them, senders, and the treasury."""

import strawberry

from raymart_billing.usdc_deposits.rail import required
from raymart_billing.usdc_deposits.scanning import last_scan, undecided
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.usdc_deposits.loaders import SENDERS, TREASURY_DEPOSITS, UNDECIDED
from raymart_graphql.schema.usdc_deposits.types import TreasuryDeposit, UsdcSender, UsdcTreasury, usdc


@strawberry.type
class UsdcDepositQuery:
    """Root fields of the domain."""

    @listed("Payments in USDC that nobody can tell or that are held, oldest first. For administrators.")
    async def undecided_usdc_deposits(self, info: Info, page: Page) -> Connection[TreasuryDeposit]:
        """Deposits in suspense by id."""
        async with info.context.reading.session() as session:
            return await page_of(session, UNDECIDED, page)

    @listed("Every payment to the treasury, newest first. For administrators.")
    async def treasury_deposits(self, info: Info, page: Page) -> Connection[TreasuryDeposit]:
        """Deposits by id."""
        async with info.context.reading.session() as session:
            return await page_of(session, TREASURY_DEPOSITS, page)

    @listed("Wallets that are blocked or known as an exchange's. For administrators.")
    async def usdc_senders(self, info: Info, page: Page) -> Connection[UsdcSender]:
        """Senders by address."""
        async with info.context.reading.session() as session:
            return await page_of(session, SENDERS, page)

    @resolved("The treasury, and how far it was read. For administrators.")
    async def usdc_treasury(self, info: Info) -> UsdcTreasury:
        """By the scanner's row."""
        rail = required(info.context.services.usdc_rail)
        async with info.context.reading.session() as session:
            scan = await last_scan(session, rail.account)
            waiting = await undecided(session)
        gap = None if scan is None else scan.gap_micro_usdc
        return UsdcTreasury(
            wallet=str(rail.treasury),
            account=rail.account,
            mint=str(rail.mint),
            scanned_at=None if scan is None else scan.scanned_at,
            problem=None if scan is None else scan.problem,
            problem_since=None if scan is None else scan.problem_since,
            gap=None if gap is None else usdc(gap),
            undecided=waiting,
        )
