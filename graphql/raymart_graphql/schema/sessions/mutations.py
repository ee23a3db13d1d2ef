"""Logging in, staying in, logging out."""

from uuid import UUID

import strawberry

from raymart_core.errors import InvalidRequest, NotAuthenticated
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.sessions.entering import enter
from raymart_graphql.schema.sessions.payloads import (
    LoginPayload,
    LogoutPayload,
    RefreshSessionPayload,
    RevokeOtherSessionsPayload,
    RevokeSessionPayload,
)
from raymart_graphql.schema.sessions.types import Session
from raymart_marketplace.accounts import sessions
from raymart_marketplace.accounts.session_models import LoginMethod, SessionEnd
from raymart_marketplace.accounts.sessions import Refused

_STALE = "the refresh token is wrong, expired or used up; log in again"
_REUSED = (
    "this refresh token was used before, so somebody may have a copy: its session has ended; log in again,"
    " and change the password if that was not you"
)
_NO_SESSION = (
    "this access token belongs to no session, it was issued by an operator; log in for one that does"
)


@strawberry.input(description="Credentials of a person.")
class LoginInput:
    """E-mail and password."""

    email: str = strawberry.field(description="E-mail address.")
    password: str = strawberry.field(description="Password.")


@strawberry.input(description="The session to continue.")
class RefreshSessionInput:
    """A refresh token."""

    refresh_token: str = strawberry.field(description="What login or the last refreshSession gave.")


@strawberry.input(description="The session to end.")
class RevokeSessionInput:
    """One of the viewer's."""

    session_id: strawberry.ID = strawberry.field(description="Which session.")


@strawberry.input(description="The one session that stays.")
class RevokeOtherSessionsInput:
    """One of the viewer's."""

    keep_session_id: strawberry.ID | None = strawberry.field(
        default=None, description="Which session stays; null for the one that asks."
    )


@strawberry.input(description="How much to log out of.")
class LogoutInput:
    """This session, or all."""

    everywhere: bool = strawberry.field(
        default=False, description="End all of the person's sessions, not only the one that asks."
    )


@strawberry.type
class SessionMutation:
    """Root fields of the domain."""

    @mutation(
        "Trade e-mail and password for a session: an access token, and a refresh token to continue it. Who has enrolled a"
        " second factor gets a challenge instead, for `completeLogin`."
    )
    async def login(self, info: Info, input_: LoginInput) -> LoginPayload:
        """Takes the same time whether or not the address has an account."""
        operation, payload = info.context, LoginPayload()
        user = await operation.services.people.password_login.prove(
            email=input_.email, password=input_.password, address=operation.client.address
        )
        await enter(operation, payload, user=user, method=LoginMethod.PASSWORD)
        return payload

    @mutation(
        "Continue a session: its refresh token is used up, and the next is in the answer. Asking again with the same token"
        " within 10 seconds gives the same answer, in case the first was lost; later it ends the session."
    )
    async def refresh_session(self, info: Info, input_: RefreshSessionInput) -> RefreshSessionPayload:
        """Rotation with reuse detection."""
        operation, payload = info.context, RefreshSessionPayload()
        async with operation.writing() as session:
            outcome = await sessions.refresh_session(
                session,
                operation.services.people.session_policy,
                refresh_token=input_.refresh_token,
                address=operation.client.device.address,
            )
        # After the commit: that a session ended by a reuse must hold although the answer is a refusal.
        if isinstance(outcome, Refused):
            if outcome.revoked is None:
                raise NotAuthenticated(_STALE, param="refresh_token")
            await operation.services.forgetting.session(outcome.revoked.id)
            raise NotAuthenticated(_REUSED, param="refresh_token")
        payload.show(operation, outcome)
        return payload

    @mutation("End one of the viewer's sessions, with all its tokens; a repeat changes nothing.")
    async def revoke_session(self, info: Info, input_: RevokeSessionInput) -> RevokeSessionPayload:
        """From another device."""
        session_id = parse_global_id(Prefix.SESSION, input_.session_id, field="session_id")
        claims = await info.context.claims()
        ended = await _end(info.context, claims.user_id, session_id, SessionEnd.REVOKED)
        return RevokeSessionPayload(session=ended)

    @mutation("End all sessions of the viewer except the one that asks.")
    async def revoke_other_sessions(
        self, info: Info, input_: RevokeOtherSessionsInput
    ) -> RevokeOtherSessionsPayload:
        """After a doubt."""
        claims = await info.context.claims()
        kept = claims.session_id
        if input_.keep_session_id is not None:
            kept = parse_global_id(Prefix.SESSION, input_.keep_session_id, field="keep_session_id")
        ended = await _end_all(info.context, claims.user_id, why=SessionEnd.REVOKED, but=kept)
        return RevokeOtherSessionsPayload(revoked=ended)

    @mutation("End the session that asks, with all its tokens.")
    async def logout(self, info: Info, input_: LogoutInput) -> LogoutPayload:
        """The token in use ends too."""
        claims = await info.context.claims()
        if claims.session_id is None and not input_.everywhere:
            raise InvalidRequest(_NO_SESSION)
        payload = LogoutPayload()
        if claims.session_id is not None:
            payload.session = await _end(info.context, claims.user_id, claims.session_id, SessionEnd.LOGOUT)
        if input_.everywhere:
            await _end_all(info.context, claims.user_id, why=SessionEnd.LOGOUT, but=None)
        return payload


async def _end(operation: Operation, user_id: UUID, session_id: UUID, why: SessionEnd) -> Session:
    """End one of the viewer's sessions. The token that asked may be its own, and good for nothing afterwards."""
    async with operation.writing() as session:
        row = await sessions.revoke_session(session, user_id=user_id, session_id=session_id, why=why)
    await operation.services.forgetting.session(session_id)
    return Session.of(row)


async def _end_all(operation: Operation, user_id: UUID, *, why: SessionEnd, but: UUID | None) -> int:
    """End all of the viewer's sessions except `but`; returns how many."""
    async with operation.writing() as session:
        ended = await sessions.revoke_sessions(session, user_id=user_id, why=why, but=but)
    await operation.services.forgetting.user(user_id)
    return len(ended)
