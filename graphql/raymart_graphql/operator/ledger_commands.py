"""`raymart ledger`: the books: checks, statements, corrections."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from uuid import UUID

import psycopg
import typer

from raymart_billing import ledger as books
from raymart_billing.connections import Connection
from raymart_billing.ledger.seal import seal
from raymart_billing.ledger.statement import STATEMENT_LINES_MAX
from raymart_billing.ledger.verify import Verification, verify
from raymart_billing.seals.chain import Sealed
from raymart_billing.seals.head import Head, read_head_file
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import settings_of, with_database
from raymart_graphql.operator.seal_settings import LedgerSettings
from raymart_marketplace.accounts.service import user_by_email
from raymart_marketplace.db.session import Sessions, session_scope

ledger = typer.Typer(no_args_is_help=True)

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]
PAGE_MAX = 100


@ledger.command("verify")
def ledger_verify(
    head: Annotated[
        str | None,
        typer.Option(help="Newest seal you know, <position>:<hash>, as the log `ledger.sealed` has it."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check every transfer, hold, balance, snapshot and seal; exit status 1 names the first bad row."""
    settings = _settings()
    known = _head(head, settings.ledger_head_file)
    begun = time.monotonic()
    found = asyncio.run(_verified(settings, known))
    _keep(settings, found, duration_s=time.monotonic() - begun)
    rows = [{"check": finding.check.value, "finding": finding.text} for finding in found.findings]
    if rows or output is Output.JSON:
        print_rows(rows, columns=("check", "finding"), output=output)
    chain = found.chain
    where = "no seal" if chain.head is None else f"the newest is {chain.head}"
    for line in (
        f"{chain.sealed} transfers sealed, {chain.unsealed} wait for their seal; {where}",
        *(
            []
            if chain.are_hashes_checked
            else ["hashes were not checked: RAYMART_LEDGER_SEAL_KEY is not set"]
        ),
        *([] if known is not None else ["a cut end was not looked for: no head file and no --head"]),
    ):
        typer.echo(line, err=True)
    if found.findings:
        raise Conflict(f"the books are not sound; first bad row: {found.findings[0].text}")
    typer.echo("the books are sound", err=True)


@ledger.command("trial-balance")
def ledger_trial_balance(output: OutputOption = Output.TABLE) -> None:
    """Recompute the sums of all accounts by kind; exit status 1 when they do not balance."""

    async def read(sessions: Sessions) -> books.TrialBalance:
        async with session_scope(sessions) as session:
            return await books.trial_balance(session)

    found = with_database(_settings().database_url, read)
    rows = [
        {
            "kind": row.kind.value,
            "accounts": row.accounts,
            "debits": row.debits_posted,
            "credits": row.credits_posted,
            "held": row.debits_pending,
            "balance": row.balance,
        }
        for row in found.rows
    ]
    print_rows(rows, columns=("kind", "accounts", "debits", "credits", "held", "balance"), output=output)
    if not found.balanced:
        raise Conflict(
            f"the books do not balance: debits {found.debits}, credits {found.credits}, transferred {found.transferred},"
            f" {len(found.drifts)} accounts differ, {len(found.uncleared)} clearing accounts keep money;"
            " `raymart ledger verify` names the rows"
        )


@ledger.command("accounts")
def ledger_accounts(
    kind: Annotated[books.AccountKind | None, typer.Option(help="Only this kind.")] = None,
    after: Annotated[int, typer.Option(help="Start after this account.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_MAX)] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List accounts by number."""

    async def read(sessions: Sessions) -> Sequence[books.LedgerAccount]:
        async with session_scope(sessions) as session:
            return await books.accounts_page(session, after=after, limit=limit, kind=kind)

    rows = [
        {
            "id": account.id,
            "kind": account.kind.value,
            "owner": account.owner_id,
            "balance": books.balance_of(account),
            "held": account.debits_pending,
        }
        for account in with_database(_settings().database_url, read)
    ]
    print_rows(rows, columns=("id", "kind", "owner", "balance", "held"), output=output)


@ledger.command("statement")
def ledger_statement(
    account_id: Annotated[int, typer.Argument(help="Number of the account.")],
    before: Annotated[int | None, typer.Option(help="Only transfers with lower numbers.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=STATEMENT_LINES_MAX)] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what was posted on an account, newest first, each line with the balance after it."""

    async def read(sessions: Sessions) -> Sequence[books.StatementLine]:
        async with session_scope(sessions) as session:
            return await books.statement(session, account_id, before=before, limit=limit)

    rows = [
        {
            "transfer": line.transfer_id,
            "at": line.created_at.isoformat(),
            "code": line.code.value,
            "change": line.change,
            "balance": line.balance,
            "counter_account": line.counter_account_id,
            "key": line.key,
        }
        for line in with_database(_settings().database_url, read)
    ]
    columns = ("transfer", "at", "code", "change", "balance", "counter_account", "key")
    print_rows(rows, columns=columns, output=output)


@ledger.command("snapshot")
def ledger_snapshot() -> None:
    """Take today's snapshot of all balances, if the worker has not."""

    async def take(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            day = await books.take_snapshot(session)
        return "today has its snapshot already" if day is None else f"snapshot of {day} taken"

    typer.echo(with_database(_settings().database_url, take))


@ledger.command("checks")
def ledger_checks(output: OutputOption = Output.TABLE) -> None:
    """List the newest check of each kind; one with findings is an alarm."""

    async def read(sessions: Sessions) -> Sequence[books.LedgerCheck]:
        async with session_scope(sessions) as session:
            return await books.latest_checks(session)

    rows = [
        {
            "kind": check.kind.value,
            "at": check.checked_at.isoformat(),
            "findings": check.findings,
            "first": check.finding,
            "duration_ms": check.duration_ms,
        }
        for check in with_database(_settings().database_url, read)
    ]
    print_rows(rows, columns=("kind", "at", "findings", "first", "duration_ms"), output=output)


@ledger.command("seal")
def ledger_seal() -> None:
    """Seal what is settled now; the worker does so every few seconds."""
    settings = _settings()
    key = settings.key
    if key is None:
        raise InvalidRequest("RAYMART_LEDGER_SEAL_KEY is not set; give the workers' key")

    async def run() -> Sealed:
        async with await _connect(settings) as connection:
            return await seal(connection, key=key, head_file=settings.ledger_head_file)

    sealed = asyncio.run(run())
    typer.echo(f"{sealed.rows} transfers sealed; the newest seal is {sealed.head}")


@ledger.command("reverse")
def ledger_reverse(
    transfer_ids: Annotated[
        list[int], typer.Argument(help="Numbers of the transfers; all go back together.")
    ],
    reason: Annotated[str, typer.Option(help="Why; it stays in the books.")],
    actor: Annotated[str | None, typer.Option(help="E-mail of who decided it.")] = None,
) -> None:
    """Undo posted transfers by their mirrors. The parts of one usage can only go back together."""

    async def run(sessions: Sessions) -> Sequence[books.Transfer]:
        async with session_scope(sessions) as session:
            actor_id = await _user_id(sessions, actor)
            return await books.reverse(session, transfer_ids, reason=reason, actor_id=actor_id)

    for reversal in with_database(_settings().database_url, run):
        typer.echo(f"transfer {reversal.reverses_id} reversed by transfer {reversal.id}")


async def _user_id(sessions: Sessions, email: str | None) -> UUID | None:
    if email is None:
        return None
    async with session_scope(sessions) as session:
        user = await user_by_email(session, email)
    if user is None:
        raise NotFound(f"no user has the address {email!r}", param="actor")
    return user.id


def _head(given: str | None, path: Path | None) -> Head | None:
    """The newest seal that is known outside the database: the option, else the file."""
    try:
        if given is not None:
            return Head.parse(given)
        return read_head_file(path) if path is not None else None
    except ValueError as error:
        raise InvalidRequest(str(error), param="head") from None


async def _verified(settings: LedgerSettings, head: Head | None) -> Verification:
    async with await _connect(settings) as connection:
        return await verify(connection, key=settings.key, head=head)


def _keep(settings: LedgerSettings, found: Verification, *, duration_s: float) -> None:
    """Keep the result beside the worker's checks, so that GraphQL shows when the books were last verified."""

    async def record(sessions: Sessions) -> None:
        async with session_scope(sessions) as session:
            await books.record_check(
                session,
                books.LedgerCheckKind.VERIFY,
                findings=[finding.text for finding in found.findings],
                duration_s=duration_s,
            )

    with_database(settings.database_url, record)


async def _connect(settings: LedgerSettings) -> Connection:
    return await psycopg.AsyncConnection.connect(
        settings.database_url, autocommit=True, connect_timeout=5, application_name="raymart-ledger"
    )


def _settings() -> LedgerSettings:
    return settings_of(LedgerSettings)
