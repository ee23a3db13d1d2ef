"""`raymart db`: the schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from alembic.util import CommandError

from raymart_core.errors import InvalidRequest
from raymart_graphql.operator.failures import first_line
from raymart_graphql.operator.running import database_settings, with_database
from raymart_marketplace import audit
from raymart_marketplace.audit import AuditEntry, AuditOutcome
from raymart_marketplace.db import migrate
from raymart_marketplace.db.session import Sessions, session_scope

database = typer.Typer(no_args_is_help=True)


@database.command("upgrade")
def db_upgrade(revision: Annotated[str, typer.Option(help="Where to stop.")] = "head") -> None:
    """Apply the migrations that are missing."""
    settings = database_settings()
    before = migrate.current(settings.owner_url)
    with _refusals_in_one_line():
        migrate.upgrade(settings.owner_url, revision, scripts=settings.migrations_dir)
    _record(settings.owner_url, before)
    typer.echo(f"the database is at {migrate.current(settings.owner_url)}")


@database.command("downgrade")
def db_downgrade(
    revision: Annotated[str, typer.Argument(help="Where to go back to; base for an empty database.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, lose what the dropped tables hold.")] = False,
) -> None:
    """Take migrations back. Data in dropped tables is lost."""
    if not yes:
        raise InvalidRequest(
            f"going back to {revision!r} drops tables with their data; add --yes if you mean it"
        )
    settings = database_settings()
    before = migrate.current(settings.owner_url)
    with _refusals_in_one_line():
        migrate.downgrade(settings.owner_url, revision, scripts=settings.migrations_dir)
    _record(settings.owner_url, before)
    typer.echo(f"the database is at {migrate.current(settings.owner_url) or 'base'}")


@database.command("current")
def db_current() -> None:
    """Print the migration that the database is at."""
    typer.echo(migrate.current(database_settings().database_url) or "base")


@database.command("check")
def db_check() -> None:
    """Compare the database with the models; fails when a migration is missing."""
    settings = database_settings()
    with _refusals_in_one_line():
        migrate.check(settings.database_url, scripts=settings.migrations_dir)
    typer.echo("the database matches the models")


def _record(url: str, before: str | None) -> None:
    """Write into the audit log what was migrated, where there is one: migrations commit each by itself, and come first."""
    after = migrate.current(url)
    act = audit.current_act()
    assert act is not None, "every command is an act"

    async def write(sessions: Sessions) -> None:
        async with session_scope(sessions) as session:
            await audit.append(session, act, AuditOutcome.DONE)

    if after != before and migrate.has_table(url, AuditEntry.__tablename__):
        act.input = {"from": before, "to": after}
        with_database(url, write)


@contextmanager
def _refusals_in_one_line() -> Iterator[None]:
    """Say what Alembic refuses as our commands do. Raises: InvalidRequest."""
    try:
        yield
    except CommandError as error:
        raise InvalidRequest(first_line(error)) from error
