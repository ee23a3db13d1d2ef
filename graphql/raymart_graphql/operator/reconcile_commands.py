"""`raymart payouts reconcile` and what belongs to it: the chain against the ledger."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from sqlalchemy import select

from raymart_billing.payouts.reconciliation.models import (
    ReconciliationDifference,
    ReconciliationRun,
    RunTrigger,
)
from raymart_billing.payouts.reconciliation.opening import reconcile
from raymart_billing.payouts.reconciliation.service import begin_run, open_differences, resolve_difference
from raymart_billing.payouts.reconciliation.withdrawals import look_up, record_withdrawal
from raymart_billing.solana.chain import Chain, open_chain, required
from raymart_core.errors import Conflict
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.db.session import Sessions, session_scope

Result = TypeVar("Result")
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]
SinceOption = Annotated[
    datetime | None,
    typer.Option(help="Begin with the newest run before this moment (UTC); everything without."),
]
COLUMNS = ("number", "kind", "table", "row", "expected", "found", "state")
LISTING_MAX = 1_000


def payouts_reconcile(since: SinceOption = None, output: OutputOption = Output.TABLE) -> None:
    """Compare the chain with the ledger both ways; exit status 1 names each difference, and payouts are then stopped."""

    async def run(sessions: Sessions, chain: Chain) -> tuple[ReconciliationRun, list[dict[str, object]]]:
        async with session_scope(sessions) as session:
            begun = await begin_run(
                session,
                trigger=RunTrigger.OPERATOR,
                since=None if since is None else since.replace(tzinfo=UTC),
            )
        done = await reconcile(sessions, chain, begun.id)
        async with session_scope(sessions) as session:
            found = await session.scalars(
                select(ReconciliationDifference)
                .where(ReconciliationDifference.last_run_id == done.id)
                .order_by(ReconciliationDifference.number)
            )
            return done, [_shown(one) for one in found]

    done, rows = _with_chain(run)
    if rows or output is Output.JSON:
        print_rows(rows, columns=COLUMNS, output=output)
    second = "" if done.endpoints != 1 else "; one endpoint, so no second opinion: give SOLANA_RPC_URL two"
    typer.echo(
        f"reconciliation {done.number}: {done.parts} parts and {done.transactions} transactions up to slot {done.slot},"
        f" {done.balance_micro_usdc} micro-USDC in the treasury{second}",
        err=True,
    )
    if rows:
        raise Conflict(
            f"chain and ledger differ: {len(rows)} differences, the first: {rows[0]['kind']} of {rows[0]['row']};"
            " payouts are stopped until each has a reason (`raymart payouts resolve`)"
        )
    typer.echo("chain and ledger agree", err=True)


def payouts_differences(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those too that have their reason.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=LISTING_MAX)] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List differences between chain and ledger, newest first."""

    async def read(sessions: Sessions) -> list[dict[str, object]]:
        wanted = (
            select(ReconciliationDifference).order_by(ReconciliationDifference.number.desc()).limit(limit)
        )
        if not everything:
            wanted = wanted.where(ReconciliationDifference.resolved_at.is_(None))
        async with session_scope(sessions) as session:
            return [_shown(one) for one in await session.scalars(wanted)]

    rows = with_database(database_settings().database_url, read)
    print_rows(rows, columns=COLUMNS, output=output)


def payouts_resolve(
    number: Annotated[int, typer.Argument(min=1, help="The difference's number.")],
    reason: Annotated[str, typer.Option(help="Why it is none, or what was done about it.")],
) -> None:
    """Give a difference its reason; the last open one lets payouts that it stopped go on."""

    async def write(sessions: Sessions) -> int:
        async with session_scope(sessions) as session:
            await resolve_difference(session, number=number, reason=reason, resolved_by=None)
            return await open_differences(session)

    left = with_database(database_settings().database_url, write)
    typer.echo(f"resolved; {left} still open" if left else "resolved; none is open any more", err=True)


def payouts_withdrawn(
    signature: Annotated[str, typer.Argument(help="The finalized transaction.")],
    reason: Annotated[str, typer.Option(help="Where the money went, and why.")],
) -> None:
    """Record USDC that the platform took out of its treasury by hand; the amount is what the chain says."""

    async def write(sessions: Sessions, chain: Chain) -> int:
        found = await look_up(chain, signature)
        async with session_scope(sessions) as session:
            recorded = await record_withdrawal(session, found, reason=reason, recorded_by=None)
            return recorded.amount_micro_usdc

    amount = _with_chain(write)
    typer.echo(f"{amount} micro-USDC recorded as withdrawn", err=True)


def add_reconciliation(group: typer.Typer) -> None:
    """Add these commands to `raymart payouts`."""
    group.command("reconcile")(payouts_reconcile)
    group.command("differences")(payouts_differences)
    group.command("resolve")(payouts_resolve)
    group.command("withdrawn")(payouts_withdrawn)


def _with_chain(work: Callable[[Sessions, Chain], Awaitable[Result]]) -> Result:
    settings = control_settings()

    async def run(sessions: Sessions) -> Result:
        chain = required(open_chain(settings))
        try:
            return await work(sessions, chain)
        finally:
            await chain.aclose()

    return with_database(settings.database_url, run)


def _shown(difference: ReconciliationDifference) -> dict[str, object]:
    return {
        "number": difference.number,
        "kind": difference.kind.value,
        "table": difference.subject_table,
        "row": difference.subject,
        "expected": difference.expected,
        "found": difference.found,
        "state": "open" if difference.resolved_at is None else difference.reason,
    }
