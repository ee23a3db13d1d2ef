"""Snapshots, checks and seals of the ledger."""

import strawberry

from raymart_billing import ledger
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.ledger.types import LEDGER_SNAPSHOTS, LedgerCheck, LedgerHealth, LedgerSnapshot


@strawberry.type
class LedgerQuery:
    """Root fields of the domain."""

    @listed("Daily snapshots of all balances, newest first. For administrators.")
    async def ledger_snapshots(self, info: Info, page: Page) -> Connection[LedgerSnapshot]:
        """Snapshots by day."""
        async with info.context.reading.session() as session:
            return await page_of(session, LEDGER_SNAPSHOTS, page)

    @resolved("Checks and seals of the ledger. For administrators.")
    async def ledger_health(self, info: Info) -> LedgerHealth:
        """The newest checks and the newest seal."""
        async with info.context.reading.session() as session:
            checks = await ledger.latest_checks(session)
            head = await ledger.latest_seal(session)
        return LedgerHealth(
            sound=not any(check.findings for check in checks),
            seal_position=0 if head is None else head.position,
            seal_hash=None if head is None else head.hash.hex(),
            checks=[LedgerCheck.of(check) for check in checks],
        )
