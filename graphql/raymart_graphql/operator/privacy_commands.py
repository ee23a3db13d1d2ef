"""`raymart privacy`: an organization's copy of what is its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from raymart_billing.privacy.export import export_organization
from raymart_core.errors import Conflict
from raymart_graphql.operator.arguments import organization_id
from raymart_graphql.operator.running import database_settings, with_database
from raymart_marketplace.db.session import Sessions, session_scope

privacy = typer.Typer(no_args_is_help=True)


@privacy.callback()
def _group() -> None:
    """Keep `export` a command of its own while it is the only one."""


@privacy.command("export")
def privacy_export(
    organization: Annotated[str, typer.Argument(help="Slug or id of the organization.")],
    output: Annotated[Path, typer.Option("--output", help="The zip to write; it must not exist yet.")],
) -> None:
    """Write all rows of an organization, without secrets, to a zip of JSON Lines that only you can read."""

    async def write(sessions: Sessions) -> Mapping[str, int]:
        async with session_scope(sessions) as session:
            found = await organization_id(session, organization)
        return await export_organization(sessions, found, output)

    try:
        counts = with_database(database_settings().database_url, write)
    except FileExistsError:
        raise Conflict(f"{output} exists already; name another file") from None
    typer.echo(
        f"{output}: {sum(counts.values())} rows of {sum(1 for count in counts.values() if count)} tables"
    )
