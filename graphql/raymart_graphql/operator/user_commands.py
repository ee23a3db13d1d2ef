"""`raymart user`: people's accounts, their sessions and second factors."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import NotFound
from raymart_core.ids import Prefix, show
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, with_database
from raymart_graphql.operator.signing import access_tokens
from raymart_marketplace.accounts import second_factor
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.forgetting import Forgetting
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.service import user_by_email
from raymart_marketplace.accounts.session_models import SessionEnd, UserSession
from raymart_marketplace.accounts.sessions import open_sessions_of, revoke_sessions
from raymart_marketplace.accounts.tokens import TTL_S_MAX
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.shared_state import make_redis

user = typer.Typer(no_args_is_help=True)

Email = Annotated[str, typer.Option(help="Whose account.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="How to print it.")]
COLUMNS = (
    "id",
    "method",
    "created_at",
    "last_used_at",
    "expires_at",
    "address",
    "second_factor_at",
    "user_agent",
)
_CHANGED = ("email", "change", "sessions_ended")


@user.command("sessions")
def user_sessions(email: Email, output: Format = Output.TABLE) -> None:
    """List where a person is logged in, newest first."""

    async def read(sessions: Sessions) -> list[dict[str, object]]:
        async with session_scope(sessions) as session:
            found = await _user(session, email)
            return [_row(each) for each in await open_sessions_of(session, found.id)]

    print_rows(with_database(control_settings().database_url, read), columns=COLUMNS, output=output)


@user.command("revoke-sessions")
def user_revoke_sessions(email: Email, output: Format = Output.TABLE) -> None:
    """End all sessions of a person; they log in anew."""
    _change(email, "sessions revoked", _nothing, output)


@user.command("disable")
def user_disable(email: Email, output: Format = Output.TABLE) -> None:
    """Let a person in no more, and end all their sessions. Their organizations and keys go on; a repeat changes nothing."""

    async def disable(_session: AsyncSession, found: User) -> None:
        found.disabled_at = found.disabled_at or func.clock_timestamp()

    _change(email, "disabled", disable, output)


@user.command("enable")
def user_enable(email: Email, output: Format = Output.TABLE) -> None:
    """Let a disabled person in again; a repeat changes nothing."""

    async def enable(_session: AsyncSession, found: User) -> None:
        found.disabled_at = None

    _change(email, "enabled", enable, output)


@user.command("reset-totp")
def user_reset_totp(email: Email, output: Format = Output.TABLE) -> None:
    """Take a lost authenticator app and its recovery codes away, and end all sessions. Be sure who asks for this."""

    async def reset(session: AsyncSession, found: User) -> None:
        if not await second_factor.remove(session, user_id=found.id):
            raise NotFound(f"{found.email!r} has no authenticator app")

    _change(email, "second factor removed", reset, output)


def _change(
    email: str, change: str, apply: Callable[[AsyncSession, User], Awaitable[None]], output: Output
) -> None:
    """Apply a change, end the person's sessions, and tell the processes that remember them."""
    settings = control_settings()

    async def run(sessions: Sessions) -> dict[str, object]:
        async with session_scope(sessions) as session:
            found = await _user(session, email)
            await apply(session, found)
            ended = await revoke_sessions(session, user_id=found.id, why=SessionEnd.OPERATOR)
        redis = make_redis(settings.redis_url)
        try:
            # Without Redis they look again within ten seconds by themselves.
            tokens = access_tokens(settings, ttl_s=TTL_S_MAX)
            await Forgetting(Authenticator(sessions, tokens), redis).user(found.id)
        finally:
            await redis.aclose()
        return {"email": found.email, "change": change, "sessions_ended": len(ended)}

    print_rows([with_database(settings.database_url, run)], columns=_CHANGED, output=output)


async def _nothing(_session: AsyncSession, _found: User) -> None:
    """The sessions alone."""


async def _user(session: AsyncSession, email: str) -> User:
    found = await user_by_email(session, email)
    if found is None:
        raise NotFound(f"no user has the address {email!r}")
    return found


def _row(row: UserSession) -> dict[str, object]:
    shown: dict[str, object] = {column: getattr(row, column) for column in COLUMNS}
    return shown | {"id": show(Prefix.SESSION, row.id), "method": row.method.value}
