"""A database and a chain of a test's own, with the engine between them, for reconciliations that look at everything there is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import psycopg

from raymart_billing.connections import make_pool
from raymart_billing.payouts.reconciliation.models import ReconciliationRun, RunTrigger
from raymart_billing.payouts.reconciliation.opening import reader_of, reconcile
from raymart_billing.payouts.reconciliation.service import begin_run
from raymart_billing.solana import Chain
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.sending import Payees, Sending


class Reconciling:
    """`sending` on a database that nobody else uses. The treasury's first USDC is booked as what it is: the platform's own."""

    def __init__(self, sending: Sending, *, owner_url: str, runtime_url: str) -> None:
        self.sending = sending
        self.sessions = sending.sessions
        self.runtime_url = runtime_url
        self._owner_url = owner_url

    async def paid(self, *amounts: int) -> Payees:
        """A batch that was paid and is final."""
        payees = await self.sending.batch(*amounts)
        await self.sending.finish(payees.batch_id)
        return payees

    async def run(self, *, since: datetime | None = None, chain: Chain | None = None) -> ReconciliationRun:
        """A whole reconciliation."""
        async with session_scope(self.sessions) as session:
            run = await begin_run(session, trigger=RunTrigger.OPERATOR, since=since)
        return await reconcile(self.sessions, chain or self.sending.chain, run.id)

    async def differences(
        self, *, since: datetime | None = None, chain: Chain | None = None
    ) -> dict[str, str]:
        """Subjects and kinds of what a run finds: all that stand."""
        run = await self.run(since=since, chain=chain)
        return {subject: kind for kind, subject in await self.standing(run.id)}

    async def standing(self, run_id: UUID) -> list[tuple[str, str]]:
        """(kind, subject) of what the run found."""
        return await self.sending.rows.fetch(
            "select kind, subject from reconciliation_difference where last_run_id = %s order by number",
            run_id,
        )

    def edit(self, statement: str, *parameters: object) -> None:
        """As somebody does who has the database and switches its guards off."""
        with psycopg.connect(self._owner_url, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(statement.encode(), parameters)

    async def book_funding(self, *, is_capital: bool = True) -> None:
        """Write down what came to the treasury so far, as the scanner and an administrator do."""
        reading = await reader_of(self.sending.chain).read(after_slot=-1)
        for receipt in reading.history:
            if receipt.change_micro_usdc > 0:
                await self._book(receipt.signature, receipt.slot, receipt.change_micro_usdc, is_capital)

    async def _book(self, signature: str, slot: int, micro_usdc: int, is_capital: bool) -> None:
        account = str(self.sending.chain.treasury_token_account)
        key = f"usdc_deposit:{signature}:{account}"
        ids = {
            kind: await self.sending.rows.value("select ledger_open_account(%s, null, 'usd')", kind)
            for kind in ("external_usdc", "usdc_suspense", "platform_capital")
        }
        async with self.sending.pool.connection() as connection, connection.transaction():
            await connection.execute(
                "select ledger_post_batch(%s, %s, %s, %s, %s)",
                (
                    [key, *([f"{key}:funding"] if is_capital else [])],
                    [ids["external_usdc"], *([ids["usdc_suspense"]] if is_capital else [])],
                    [ids["usdc_suspense"], *([ids["platform_capital"]] if is_capital else [])],
                    [micro_usdc * 1_000] * (1 + is_capital),
                    ["deposit_unattributed", *(["treasury_funding"] if is_capital else [])],
                ),
            )
            await connection.execute(
                "insert into usdc_deposit (id, signature, account, mint, amount_micro_usdc, state, slot, sources, final_at)"
                " values (gen_random_uuid(), %s, %s, %s, %s, 'final', %s, '[]', clock_timestamp())",
                (signature, account, str(self.sending.market.mint), micro_usdc, slot),
            )
            if is_capital:
                await connection.execute(
                    "update usdc_deposit set state = 'funding' where signature = %s", (signature,)
                )


@asynccontextmanager
async def reconciling(owner_url: str, runtime_url: str) -> AsyncIterator[Reconciling]:
    """On the database of these two URLs, of the superuser and of the runtime's role."""
    engine = make_engine(runtime_url, pool_size=5)
    async with make_pool(runtime_url, size_max=10, name="test") as pool:
        made = Reconciling(Sending(pool, make_sessions(engine)), owner_url=owner_url, runtime_url=runtime_url)
        await made.book_funding()
        yield made
    await engine.dispose()
