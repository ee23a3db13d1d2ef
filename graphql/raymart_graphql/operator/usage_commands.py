"""`raymart usage`: what was spilled, the months in the database, and the rollups."""

import asyncio
import csv
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, TypeVar

import typer
from psycopg import AsyncConnection
from sqlalchemy import select

from raymart_billing.connections import Connection
from raymart_billing.rollups import (
    Dimension,
    Drift,
    Scope,
    Totals,
    UsageSum,
    drifting_days,
    rebuild,
    usage_by_day,
    usage_by_hour,
)
from raymart_billing.rollups.service import start_of
from raymart_billing.spill import SpillStream
from raymart_billing.spill.review import Waiting, retry_set_aside, set_aside_records, waiting
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_core.money import Money
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.session import Sessions

usage = typer.Typer(no_args_is_help=True)

Result = TypeVar("Result")
MonthOption = Annotated[str, typer.Option("--month", help="Such as 2026-11.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people or for programs.")]


@usage.command("spilled")
def spilled(output: OutputOption = Output.TABLE) -> None:
    """Show what waits in Redis and on this machine, and the records that were set aside, with their reasons."""
    settings = control_settings()

    async def look(connection: Connection) -> tuple[Waiting, list[dict[str, object]]]:
        stream = SpillStream(settings.redis_url)
        try:
            there = await waiting(directory=settings.spill_dir, stream=stream)
        finally:
            await stream.aclose()
        rows = [
            asdict(record)
            | {"request_id": record.request_id and show(Prefix.REQUEST, record.request_id)}
            | {"origin": record.origin.value}
            for record in await set_aside_records(connection)
        ]
        return there, rows

    there, rows = _with_connection(settings.database_url, look)
    stream_records = "?" if there.stream_records is None else there.stream_records
    # On standard error, so that a program reads the listing alone.
    typer.echo(
        f"waiting: {stream_records} records in Redis, {there.segments} files with {there.segment_bytes} bytes here;"
        f" set aside: {len(rows)}",
        err=True,
    )
    columns = ["digest", "request_id", "origin", "reason", "record_bytes", "created_at"]
    print_rows(rows, columns=columns, output=output)


@usage.command("retry-spilled")
def retry_spilled(
    digest: Annotated[str | None, typer.Argument(help="How the record's digest begins; all without.")] = None,
) -> None:
    """Try again to record what was set aside, such as after an upgrade that can read it."""

    async def retry(connection: Connection) -> tuple[int, int]:
        return await retry_set_aside(connection, digest=digest)

    recorded, left = _with_connection(database_settings().database_url, retry)
    typer.echo(f"{recorded} recorded, {left} still set aside")


@usage.command("months")
def months(output: OutputOption = Output.TABLE) -> None:
    """List the months whose usage is in the database."""

    async def read(connection: Connection) -> list[dict[str, object]]:
        cursor = await connection.execute(
            b"select month, requests, usages, unposted, bytes from usage_months()"
        )
        return [dict(zip(columns, row, strict=True)) for row in await cursor.fetchall()]

    columns = ["month", "requests", "usages", "unposted", "bytes"]
    print_rows(_with_connection(database_settings().database_url, read), columns=columns, output=output)


@usage.command("archive-month")
def archive_month(
    month: MonthOption,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")] = False,
) -> None:
    """Take an old month's requests out of the tables, into the schema usage_archive, to be dumped and dropped there.

    Rollups, ledger and invoices keep what they hold. This month and the last are refused.
    """
    first = _month(month)

    async def archive(connection: Connection) -> str:
        cursor = await connection.execute(
            b"select requests, usages, unposted, bytes from usage_months() where month = %(month)s",
            {"month": first},
        )
        found = await cursor.fetchone()
        if found is None:
            raise NotFound(f"usage of {month} is not in the database; `raymart usage months` lists what is")
        requests, usages, unposted, size = found
        what = f"{requests} requests with {usages} usages ({size} bytes, {unposted} unposted) of {month}"
        if not yes:
            return f"would archive {what}; add --yes to do it"
        await connection.execute(b"select detach_usage_month(%(month)s)", {"month": first})
        return f"archived {what}: usage_archive.request_{first:%Y%m} and its two others"

    typer.echo(_with_connection(database_settings().database_url, archive))


@usage.command("rebuild-rollups")
def rebuild_rollups(
    month: MonthOption,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Sum them anew where they differ.")] = False,
) -> None:
    """Recompute a month's rollups from its records and compare; fails when they differ and are not fixed.

    Goes day by day and says which differ, so that it can be stopped and begun again.
    """
    first = _month(month)

    async def compare(connection: Connection) -> list[Drift]:
        found = []
        async for drift in drifting_days(connection, first):
            typer.echo(f"{drift.day}: {_differing([drift])}", err=True)
            if fix:
                await rebuild(connection, drift.day)
            found.append(drift)
        return found

    found = _with_connection(database_settings().database_url, compare)
    what = _differing(found)
    if not found:
        typer.echo(f"the rollups of {month} agree with its records")
    elif fix:
        typer.echo(f"summed anew {len(found)} days: {what}")
    else:
        raise Conflict(
            f"the rollups of {month} disagree with its records on {len(found)} days: {what}; --fix sums them anew"
        )


def _differing(drifts: Sequence[Drift]) -> str:
    hours, days, parts = (
        sum(getattr(drift, name) for drift in drifts) for name in ("hour_rows", "day_rows", "part_rows")
    )
    return f"{hours} rows of hours, {days} of days and {parts} of their parts differ"


@usage.command("export")
def export(
    month: MonthOption,
    organization: Annotated[str | None, typer.Option(help="A customer's slug; everybody without.")] = None,
    *,
    hourly: Annotated[bool, typer.Option("--hourly", help="By the hour and not by the day.")] = False,
    by: Annotated[Dimension | None, typer.Option(help="Keep the sums apart by this.")] = None,
) -> None:
    """Write a month's sums as CSV to standard output; amounts are US dollars, exact."""
    first = _month(month)
    after = _next_month(first)

    async def read(sessions: Sessions) -> list[UsageSum]:
        async with sessions() as session:
            scope = Scope()
            if organization is not None:
                found = await session.scalar(select(Organization.id).where(Organization.slug == organization))
                if found is None:
                    raise NotFound(f"there is no organization {organization!r}")
                scope = Scope(organization_id=found)
            if hourly:
                since, until = start_of(first), start_of(after)
                return list(await usage_by_hour(session, scope, since=since, until=until, by=by))
            return list(await usage_by_day(session, scope, since=first, until=after, by=by))

    writer = csv.writer(sys.stdout)
    measures = list(Totals.__dataclass_fields__)
    writer.writerow(
        ["starts_at", by.value if by else "all", *(name.replace("nano_usd", "usd") for name in measures)]
    )
    for row in with_database(database_settings().database_url, read):
        values = asdict(row.totals)
        shown = [_shown(name, values[name]) for name in measures]
        writer.writerow([row.starts_at.isoformat(), row.member_id or "", *shown])


def _shown(name: str, value: int) -> str:
    return f"{Money(value).decimal():f}" if name.endswith("_nano_usd") else str(value)


def _with_connection(url: str, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        connection = await AsyncConnection.connect(
            url, autocommit=True, connect_timeout=5, application_name="raymart-usage"
        )
        async with connection:
            return await work(connection)

    return asyncio.run(run())


def _month(text: str) -> date:
    """The first day of a month such as "2026-11"."""
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError:
        raise InvalidRequest(f"{text!r} is not a month such as '2026-11'") from None


def _next_month(first: date) -> date:
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)
