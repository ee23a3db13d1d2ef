"""`raymart audit`: who changed what."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TextIO

import psycopg
import typer
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.audit.seal import seal
from raymart_billing.audit.verify import AuditVerification, verify
from raymart_billing.connections import Connection
from raymart_billing.seals.chain import Sealed
from raymart_billing.seals.head import Head, read_head_file
from raymart_core.errors import Conflict, InvalidRequest
from raymart_graphql.operator.arguments import organization_id
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import database_settings, settings_of, with_database
from raymart_graphql.operator.seal_settings import LedgerSettings
from raymart_marketplace.audit.export import ExportFormat, export_lines
from raymart_marketplace.audit.models import AuditOutcome
from raymart_marketplace.audit.redaction import id_of
from raymart_marketplace.audit.search import EXPORT_COLUMNS, AuditFilter, exported, newest
from raymart_marketplace.db.session import Sessions, session_scope

audit = typer.Typer(no_args_is_help=True)

LISTING_MAX = 1_000
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]
OrganizationOption = Annotated[
    str | None, typer.Option("--organization", help="Only of this organization's things: slug or id.")
]
ActionOption = Annotated[
    str | None, typer.Option(help="Only this, such as revokeApiKey or 'raymart budget set'.")
]
ActorOption = Annotated[
    str | None, typer.Option(help="Only by this: id of a user or key, or the name of an operator.")
]
SubjectOption = Annotated[str | None, typer.Option(help="Only what names or changed this id.")]
SinceOption = Annotated[datetime | None, typer.Option("--from", help="From this moment on (UTC).")]
UntilOption = Annotated[datetime | None, typer.Option("--to", help="Before this moment (UTC).")]
OutcomeOption = Annotated[AuditOutcome | None, typer.Option(help="Only these.")]


@audit.command("list")
def audit_list(
    *,
    organization: OrganizationOption = None,
    action: ActionOption = None,
    actor: ActorOption = None,
    subject: SubjectOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    outcome: OutcomeOption = None,
    limit: Annotated[int, typer.Option(min=1, max=LISTING_MAX)] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the newest entries, newest first."""

    async def read(sessions: Sessions) -> list[dict[str, object]]:
        async with session_scope(sessions) as session:
            wanted = await _filter(
                session,
                organization=organization,
                action=action,
                actor=actor,
                subject=subject,
                since=since,
                until=until,
                outcome=outcome,
            )
            return [exported(found, shows_staff=True) for found in await newest(session, wanted, limit=limit)]

    rows = with_database(database_settings().database_url, read)
    table = ("sequence", "at", "action", "outcome", "actor", "organization", "subject", "address")
    print_rows(rows, columns=EXPORT_COLUMNS if output is Output.JSON else table, output=output)


@audit.command("export")
def audit_export(
    *,
    format_: Annotated[
        ExportFormat, typer.Option("--format", help="CSV or JSON Lines.")
    ] = ExportFormat.JSONL,
    file: Annotated[Path | None, typer.Option(help="Where to; standard output without it.")] = None,
    organization: OrganizationOption = None,
    action: ActionOption = None,
    actor: ActorOption = None,
    subject: SubjectOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    outcome: OutcomeOption = None,
) -> None:
    """Write the entries to a file, oldest first, however many there are."""

    async def write(sessions: Sessions, out: TextIO) -> int:
        async with session_scope(sessions) as session:
            wanted = await _filter(
                session,
                organization=organization,
                action=action,
                actor=actor,
                subject=subject,
                since=since,
                until=until,
                outcome=outcome,
            )
        lines = 0
        async for line in export_lines(sessions, wanted, format_=format_, shows_staff=True):
            out.write(line)
            lines += 1
        return lines - (format_ is ExportFormat.CSV)

    url = database_settings().database_url
    if file is None:
        count = with_database(url, lambda sessions: write(sessions, sys.stdout))
    else:
        with file.open("x", encoding="utf-8", newline="") as out:
            file.chmod(0o600)
            count = with_database(url, lambda sessions: write(sessions, out))
    typer.echo(f"{count} entries exported", err=True)


@audit.command("seal")
def audit_seal() -> None:
    """Seal what is settled now; the worker does so every few seconds."""
    settings = _settings()
    key = settings.key
    if key is None:
        raise InvalidRequest("RAYMART_LEDGER_SEAL_KEY is not set; give the workers' key")

    async def run() -> Sealed:
        async with await _connect(settings) as connection:
            return await seal(connection, key=key, head_file=settings.audit_head_file)

    sealed = asyncio.run(run())
    typer.echo(f"{sealed.rows} entries sealed; the newest seal is {sealed.head}")


@audit.command("verify")
def audit_verify(
    head: Annotated[
        str | None,
        typer.Option(help="Newest seal you know, <position>:<hash>, as the log `audit.sealed` has it."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check every entry against its seal; exit status 1 names the first bad row."""
    settings = _settings()
    known = _head(head, settings.audit_head_file)

    async def run() -> AuditVerification:
        async with await _connect(settings) as connection:
            return await verify(connection, key=settings.key, head=known)

    found = asyncio.run(run())
    if found.findings or output is Output.JSON:
        print_rows([{"finding": text} for text in found.findings], columns=("finding",), output=output)
    where = "no seal" if found.head is None else f"the newest is {found.head}"
    typer.echo(f"{found.sealed} entries sealed, {found.unsealed} wait for their seal; {where}", err=True)
    if found.origins_forgotten:
        typer.echo(f"{found.origins_forgotten} entries had their address erased", err=True)
    if not found.are_hashes_checked:
        typer.echo("hashes were not checked: RAYMART_LEDGER_SEAL_KEY is not set", err=True)
    if known is None:
        typer.echo("a cut end was not looked for: no head file and no --head", err=True)
    if found.findings:
        raise Conflict(f"the audit log is not sound; first bad row: {found.findings[0]}")
    typer.echo("the audit log is sound", err=True)


async def _filter(  # noqa: PLR0917 - the options of two commands
    session: AsyncSession,
    organization: str | None,
    action: str | None,
    actor: str | None,
    subject: str | None,
    since: datetime | None,
    until: datetime | None,
    outcome: AuditOutcome | None,
) -> AuditFilter:
    actor_id = id_of(actor) if actor is not None else None
    named = id_of(subject) if subject is not None else None
    if subject is not None and named is None:
        raise InvalidRequest(f"{subject!r} is no id; ids look like key_0199...", param="subject")
    return AuditFilter(
        organization_id=await organization_id(session, organization) if organization is not None else None,
        action=action,
        actor_id=actor_id[1] if actor_id is not None else None,
        actor_name=actor if actor_id is None else None,
        mention=named[1] if named is not None else None,
        since=_utc(since),
        until=_utc(until),
        outcome=outcome,
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _head(given: str | None, path: Path | None) -> Head | None:
    """The newest seal that is known outside the database: the option, else the file."""
    try:
        if given is not None:
            return Head.parse(given)
        return read_head_file(path) if path is not None else None
    except ValueError as error:
        raise InvalidRequest(str(error), param="head") from None


async def _connect(settings: LedgerSettings) -> Connection:
    return await psycopg.AsyncConnection.connect(
        settings.database_url, autocommit=True, connect_timeout=5, application_name="raymart-audit"
    )


def _settings() -> LedgerSettings:
    return settings_of(LedgerSettings)
