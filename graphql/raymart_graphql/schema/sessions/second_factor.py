"""Second factors: enrolling an authenticator app, the second step of a log-in, and proving one anew."""

from uuid import UUID

import strawberry

from raymart_core.errors import NotAuthenticated
from raymart_graphql.context import Info, Operation
from raymart_graphql.fields import mutation
from raymart_graphql.schema.sessions.entering import open_for
from raymart_graphql.schema.sessions.payloads import SessionPayload
from raymart_graphql.schema.sessions.types import Session
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.accounts import second_factor, sessions
from raymart_marketplace.accounts.mail_models import MailKind
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.session_models import SessionEnd


@strawberry.input(description="The second step of a log-in.")
class CompleteLoginInput:
    """With a code."""

    challenge: str = strawberry.field(description="From the first step; good for 5 minutes.")
    code: str = strawberry.field(description="Six digits of the authenticator app, or a recovery code.")


@strawberry.type(description="What completeLogin gives back.")
class CompleteLoginPayload(SessionPayload):
    """A session's tokens, or why there are none."""


@strawberry.input(description="An authenticator app to enrol.")
class BeginTotpEnrolmentInput:
    """The viewer's own."""

    label: str | None = strawberry.field(
        default=None, description="How the app names the account; the e-mail address if null."
    )


@strawberry.type(
    description="What beginTotpEnrolment gives back. The app counts once confirmTotpEnrolment has seen a code."
)
class BeginTotpEnrolmentPayload(Payload):
    """For the app, shown this once."""

    secret: str | None = strawberry.field(
        default=None, description="To type into the app, base32; null when there are user errors."
    )
    uri: str | None = strawberry.field(
        default=None,
        description="The same as an otpauth URI, for a QR code; null when there are user errors.",
    )


@strawberry.input(description="Proof that the app works.")
class ConfirmTotpEnrolmentInput:
    """A code of it."""

    code: str = strawberry.field(description="Six digits that the app shows.")


@strawberry.type(
    description="What confirmTotpEnrolment gives back. All other sessions of the person have ended."
)
class ConfirmTotpEnrolmentPayload(Payload):
    """Codes for when the app is lost."""

    recovery_codes: list[str] | None = strawberry.field(
        default=None,
        description="Each is good once in the place of the app. Shown this once; null when there are user errors.",
    )


@strawberry.input(description="Takes the authenticator app away.")
class DisableTotpInput:
    """With a last code."""

    code: str = strawberry.field(description="Six digits of the app, or a recovery code.")


@strawberry.type(description="What disableTotp gives back. All other sessions of the person have ended.")
class DisableTotpPayload(Payload):
    """Whether there was one."""

    disabled: bool | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="Proves the second factor anew in the session that asks.")
class ConfirmSecondFactorInput:
    """A code."""

    code: str = strawberry.field(description="Six digits of the authenticator app, or a recovery code.")


@strawberry.type(description="What confirmSecondFactor gives back.")
class ConfirmSecondFactorPayload(Payload):
    """The session."""

    session: Session | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type
class SecondFactorMutation:
    """Root fields of the domain."""

    @mutation("Do the second step of a log-in: trade its challenge and a code for a session.")
    async def complete_login(self, info: Info, input_: CompleteLoginInput) -> CompleteLoginPayload:
        """Codes are good once, and few wrong ones are looked at."""
        operation, payload = info.context, CompleteLoginPayload()
        async with operation.reading.trusted_session() as session:
            user, method = await operation.services.people.challenges.read(session, input_.challenge)
        await _use_code(operation, user.id, input_.code)
        await open_for(operation, payload, user=user, method=method, with_second_factor=True)
        return payload

    @mutation("Begin to enrol an authenticator app. Needs a session that was opened within the last minutes.")
    async def begin_totp_enrolment(
        self, info: Info, input_: BeginTotpEnrolmentInput
    ) -> BeginTotpEnrolmentPayload:
        """Changes nothing until it is confirmed."""
        operation = info.context
        claims = await operation.claims()
        async with operation.writing() as session:
            await second_factor.require_fresh_login(
                session,
                session_id=claims.session_id,
                fresh_s=operation.services.settings.second_factor_fresh_s,
            )
            user = await session.get_one(User, claims.user_id)
            enrolment = await operation.services.people.second_factors.begin(
                session, user=user, label=input_.label
            )
        return BeginTotpEnrolmentPayload(secret=enrolment.secret, uri=enrolment.uri)

    @mutation("Let the authenticator app count from now on, given a code that it shows.")
    async def confirm_totp_enrolment(
        self, info: Info, input_: ConfirmTotpEnrolmentInput
    ) -> ConfirmTotpEnrolmentPayload:
        """The session that asks has proven a second factor by this; all others end."""
        operation, people = info.context, info.context.services.people
        claims = await operation.claims()
        limit = second_factor.code_limit(claims.user_id)
        await people.throttle.admit([limit])
        async with operation.writing() as session:
            await second_factor.require_fresh_login(
                session,
                session_id=claims.session_id,
                fresh_s=operation.services.settings.second_factor_fresh_s,
            )
            assert claims.session_id is not None, "else the login is not fresh"
            codes = await people.second_factors.confirm(session, user_id=claims.user_id, code=input_.code)
            await second_factor.mark_proven(session, user_id=claims.user_id, session_id=claims.session_id)
            await sessions.revoke_sessions(
                session, user_id=claims.user_id, why=SessionEnd.SECOND_FACTOR, but=claims.session_id
            )
            await people.mailing.ask(session, user_id=claims.user_id, kind=MailKind.SECOND_FACTOR_CHANGED)
        await people.throttle.forgive([limit])
        await operation.services.forgetting.user(claims.user_id)
        return ConfirmTotpEnrolmentPayload(recovery_codes=list(codes))

    @mutation("Take the authenticator app away, given a code of it or a recovery code.")
    async def disable_totp(self, info: Info, input_: DisableTotpInput) -> DisableTotpPayload:
        """A password alone opens the account afterwards."""
        operation, people = info.context, info.context.services.people
        claims = await operation.claims()
        await _use_code(operation, claims.user_id, input_.code)
        async with operation.writing() as session:
            removed = await second_factor.remove(session, user_id=claims.user_id)
            await sessions.revoke_sessions(
                session, user_id=claims.user_id, why=SessionEnd.SECOND_FACTOR, but=claims.session_id
            )
            await people.mailing.ask(session, user_id=claims.user_id, kind=MailKind.SECOND_FACTOR_CHANGED)
        await operation.services.forgetting.user(claims.user_id)
        return DisableTotpPayload(disabled=removed)

    @mutation("Prove the second factor anew: what asks for a fresh one is open for the next minutes.")
    async def confirm_second_factor(
        self, info: Info, input_: ConfirmSecondFactorInput
    ) -> ConfirmSecondFactorPayload:
        """In the session that asks, with the same access token."""
        operation = info.context
        claims = await operation.claims()
        if claims.session_id is None:
            raise NotAuthenticated("this access token belongs to no session; log in for one")
        await _use_code(operation, claims.user_id, input_.code)
        async with operation.writing() as session:
            row = await second_factor.mark_proven(
                session, user_id=claims.user_id, session_id=claims.session_id
            )
        await operation.services.forgetting.session(claims.session_id)
        return ConfirmSecondFactorPayload(session=Session.of(row))


async def _use_code(operation: Operation, user_id: UUID, code: str) -> None:
    """Use a code up, by itself: it stays used whatever comes of what it was for. Raises: NotAuthenticated, Overloaded."""
    people = operation.services.people
    limit = second_factor.code_limit(user_id)
    await people.throttle.admit([limit])
    async with operation.writing() as session:
        await people.second_factors.prove(session, user_id=user_id, code=code)
    await people.throttle.forgive([limit])
