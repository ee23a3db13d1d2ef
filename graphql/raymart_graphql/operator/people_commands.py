"""`raymart admin` and `raymart token`: who may do what."""

import sys
from typing import Annotated

import typer

from raymart_core.errors import NotFound
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_graphql.operator.signing import access_tokens
from raymart_marketplace.accounts.models import Role
from raymart_marketplace.accounts.service import add_member, create_user, platform_organization, user_by_email
from raymart_marketplace.accounts.tokens import TTL_S_MAX
from raymart_marketplace.db.session import Sessions, session_scope

admin = typer.Typer(no_args_is_help=True)
token = typer.Typer(no_args_is_help=True)


@admin.command("create")
def admin_create(
    email: Annotated[str, typer.Option(help="Address to log in with.")],
    name: Annotated[str, typer.Option(help="Shown name.")] = "Administrator",
) -> None:
    """Make an administrator of the marketplace. The password is asked for, or read from standard input."""
    password = _read_password()

    async def create(sessions: Sessions) -> None:
        async with session_scope(sessions) as session:
            organization = await platform_organization(session)
            user = await create_user(session, email=email, password=password, name=name)
            await add_member(session, organization_id=organization.id, user_id=user.id, role=Role.ADMIN)

    with_database(database_settings().database_url, create)
    typer.echo(f"administrator {email} made")


@token.command("issue")
def token_issue(
    email: Annotated[str, typer.Option(help="Whose token.")],
    ttl_s: Annotated[int, typer.Option(min=1, max=TTL_S_MAX, help="Life in seconds.")] = 900,
) -> None:
    """Print an access token of a user, for scripts and support; it needs the marketplace's own secret."""
    settings = control_settings()

    async def issue(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            user = await user_by_email(session, email)
        if user is None or user.disabled_at is not None:
            raise NotFound(f"no active user has the address {email!r}")
        return access_tokens(settings, ttl_s=ttl_s).issue(user.id)

    typer.echo(with_database(settings.database_url, issue))


def _read_password() -> str:
    """From the terminal, twice and unseen; else the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
