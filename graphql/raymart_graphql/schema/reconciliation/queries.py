"""Runs of reconciliation and their differences, for administrators."""

from typing import Annotated

import strawberry
from sqlalchemy import ColumnElement

from raymart_billing.payouts.reconciliation import models
from raymart_billing.payouts.reconciliation.chain_state import chain_state
from raymart_billing.solana.chain import required
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.reconciliation.chain_types import ChainState
from raymart_graphql.schema.reconciliation.types import RUNS, ReconciliationDifference, ReconciliationRun

OpenArgument = Annotated[
    bool, strawberry.argument(name="open", description="Only those that nobody has given a reason for.")
]


@strawberry.type
class ReconciliationQuery:
    """Root fields of the domain."""

    @resolved("The chain's endpoints and the treasury, asked at this moment. For administrators.")
    async def chain_state(self, info: Info) -> ChainState:
        """All endpoints at once."""
        return ChainState.of(await chain_state(required(info.context.services.chain)))

    @listed("Comparisons of the chain with the ledger, newest first. For administrators.")
    async def reconciliation_runs(self, info: Info, page: Page) -> Connection[ReconciliationRun]:
        """Runs."""
        async with info.context.reading.session() as session:
            return await page_of(session, RUNS, page)

    @listed("What did not agree between the chain and the ledger, newest first. For administrators.")
    async def reconciliation_differences(
        self, info: Info, page: Page, *, open_: OpenArgument = False
    ) -> Connection[ReconciliationDifference]:
        """Differences."""
        where: list[ColumnElement[bool]] = []
        if open_:
            where.append(models.ReconciliationDifference.resolved_at.is_(None))
        listing = Listing(
            name="reconciliation_differences",
            entity=models.ReconciliationDifference,
            key=models.ReconciliationDifference.number,
            show=ReconciliationDifference.of,
            newest_first=True,
            where=tuple(where),
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)
