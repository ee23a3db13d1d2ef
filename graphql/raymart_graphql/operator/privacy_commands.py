"""`raymart privacy`: an organization's copy of what is its own, and its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select

from raymart_billing.privacy.erasures import cancel_erasure, request_erasure
from raymart_billing.privacy.export import export_organization
from raymart_billing.privacy.models import OrganizationErasure
from raymart_core.errors import Conflict
from raymart_core.ids import Prefix, show
from raymart_graphql.operator.arguments import organization_id
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import database_settings, with_database
from raymart_marketplace.db.session import Sessions, session_scope

privacy = typer.Typer(no_args_is_help=True)

Organization = Annotated[str, typer.Argument(help="Slug or id of the organization.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="How to print it.")]
COLUMNS = ("organization", "created_at", "due_at", "waits_for", "cancelled_at", "erased_at")


@privacy.command("export")
def privacy_export(
    organization: Organization,
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


@privacy.command("list")
def privacy_list(output: Format = Output.TABLE) -> None:
    """List the erasures that wait or are done, newest first."""

    async def read(sessions: Sessions) -> list[dict[str, object]]:
        async with session_scope(sessions) as session:
            found = await session.scalars(
                select(OrganizationErasure)
                .where(OrganizationErasure.cancelled_at.is_(None))
                .order_by(OrganizationErasure.id.desc())
            )
            return [_row(each) for each in found]

    print_rows(with_database(database_settings().database_url, read), columns=COLUMNS, output=output)


@privacy.command("erase")
def privacy_erase(
    organization: Organization,
    confirm_name: Annotated[str, typer.Option("--confirm-name", help="The organization's name, exactly.")],
    output: Format = Output.TABLE,
) -> None:
    """Erase an organization a week from now; what was personal is gone for good then, the books stay."""

    async def ask(sessions: Sessions) -> list[dict[str, object]]:
        async with session_scope(sessions) as session:
            found = await organization_id(session, organization)
            return [
                _row(
                    await request_erasure(
                        session, organization_id=found, confirm_name=confirm_name, user_id=None
                    )
                )
            ]

    print_rows(with_database(database_settings().database_url, ask), columns=COLUMNS, output=output)


@privacy.command("cancel")
def privacy_cancel(organization: Organization, output: Format = Output.TABLE) -> None:
    """Take an erasure back before it is done."""

    async def cancel(sessions: Sessions) -> list[dict[str, object]]:
        async with session_scope(sessions) as session:
            found = await organization_id(session, organization)
            return [_row(await cancel_erasure(session, organization_id=found))]

    print_rows(with_database(database_settings().database_url, cancel), columns=COLUMNS, output=output)


def _row(erasure: OrganizationErasure) -> dict[str, object]:
    return {
        "organization": show(Prefix.ORGANIZATION, erasure.organization_id),
        "created_at": erasure.created_at,
        "due_at": erasure.due_at,
        "waits_for": erasure.waits_for,
        "cancelled_at": erasure.cancelled_at,
        "erased_at": erasure.erased_at,
    }
