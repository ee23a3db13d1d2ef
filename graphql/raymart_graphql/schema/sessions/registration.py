"""Signing up, verifying an address, and passwords."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import strawberry

from raymart_core.errors import Forbidden, InvalidRequest, NotAuthenticated, Overloaded
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import OrganizationKind
from raymart_graphql.fields import mutation
from raymart_graphql.people import People
from raymart_graphql.schema.identity.types import User
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.accounts import models, registration
from raymart_marketplace.accounts.account_mail import user_of_token
from raymart_marketplace.accounts.addresses import normal_email
from raymart_marketplace.accounts.login_limits import network_of
from raymart_marketplace.accounts.mail_models import MailKind
from raymart_marketplace.accounts.password_policy import check_password
from raymart_marketplace.oversight.switches import Feature

ANSWER_S_MIN = 0.25
"""What a stranger may learn of an address by the clock is hidden below this: our work for it takes a tenth of that."""
_STALE = "this link is wrong, used or expired, or the password is not the one that was chosen; ask for another mail"


@strawberry.input(description="An account to make.")
class SignUpInput:
    """A person and their organization."""

    email: str = strawberry.field(description="E-mail address; a mail there has to be answered.")
    password: str = strawberry.field(description="8 to 128 characters, and none of the common ones.")
    name: str = strawberry.field(description="How the person is called.")
    organization_name: str = strawberry.field(description="Name of the organization that they begin with.")
    organization_kind: OrganizationKind = strawberry.field(description="CUSTOMER to buy, PROVIDER to sell.")


@strawberry.type(description="What signUp gives back: the same whether or not the address has an account.")
class SignUpPayload(Payload):
    """Where the mail went."""

    email: str | None = strawberry.field(
        default=None, description="Address that the mail went to; null when there are user errors."
    )


@strawberry.input(description="Proof that a person reads mail at their address.")
class VerifyEmailInput:
    """Of the mail, and of the person who chose the password."""

    token: str = strawberry.field(description="From the mail.")
    password: str = strawberry.field(description="The one chosen at signUp: a link alone opens nothing.")


@strawberry.type(description="What verifyEmail gives back.")
class VerifyEmailPayload(Payload):
    """Whose address is verified now."""

    user: User | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="Where the mail is sent again.")
class ResendVerificationInput:
    """The viewer's own address."""

    email: str | None = strawberry.field(
        default=None, description="The viewer's own address, to be sure; null for it too."
    )


@strawberry.type(description="What resendVerification gives back.")
class ResendVerificationPayload(Payload):
    """Where the mail goes."""

    email: str | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="Whose password is forgotten.")
class RequestPasswordResetInput:
    """An address."""

    email: str = strawberry.field(description="E-mail address of the account.")


@strawberry.type(
    description="What requestPasswordReset gives back: the same whether or not there is an account."
)
class RequestPasswordResetPayload(Payload):
    """Where a mail goes if there is an account."""

    email: str | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="A new password in the place of a forgotten one.")
class ResetPasswordInput:
    """With the token of a mail."""

    token: str = strawberry.field(description="From the mail.")
    new_password: str = strawberry.field(description="8 to 128 characters, and none of the common ones.")


@strawberry.type(description="What resetPassword gives back. Every session has ended; log in anew.")
class ResetPasswordPayload(Payload):
    """Whose password it is."""

    user: User | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="A new password in the place of a known one.")
class ChangePasswordInput:
    """Both."""

    current_password: str = strawberry.field(description="The one until now.")
    new_password: str = strawberry.field(description="8 to 128 characters, and none of the common ones.")


@strawberry.type(description="What changePassword gives back. All other sessions have ended.")
class ChangePasswordPayload(Payload):
    """Whose password it is."""

    user: User | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type
class RegistrationMutation:
    """Root fields of the domain."""

    @mutation(
        "Make an account and an organization. The answer is the same for an address that has one; a mail says what to do."
    )
    async def sign_up(self, info: Info, input_: SignUpInput) -> SignUpPayload:
        """No answer and no delay tells which addresses have accounts."""
        operation, people = info.context, info.context.services.people
        asked = {
            "email": input_.email,
            "name": input_.name,
            "organization_name": input_.organization_name,
        }
        if not info.context.services.controls.is_on(Feature.SIGNUPS):
            raise Forbidden(registration.NO_NEW_ACCOUNTS)
        registration.check_sign_up(**asked, password=input_.password, kind=input_.organization_kind)
        await people.throttle.admit([registration.sign_up_limit(network_of(operation.client.address))])
        password_hash = await people.password_work.hash(input_.password)
        async with _no_sooner(), operation.writing() as session:
            await registration.register(
                session,
                people.mailing,
                **asked,
                password_hash=password_hash,
                kind=input_.organization_kind,
            )
        return SignUpPayload(email=normal_email(input_.email))

    @mutation("Verify an e-mail address with the token of its mail and the password that was chosen.")
    async def verify_email(self, info: Info, input_: VerifyEmailInput) -> VerifyEmailPayload:
        """The token is good once, and only together with the password."""
        operation, people = info.context, info.context.services.people
        async with operation.reading.trusted_session() as session:
            user = await user_of_token(session, input_.token, kind=MailKind.VERIFY_EMAIL)
        await operation.reading.aclose()
        try:
            # Throttled as a log-in, which it is as good as.
            await people.password_login.prove(
                email=user.email if user else "nobody",
                password=input_.password,
                address=operation.client.address,
            )
        except NotAuthenticated:
            raise InvalidRequest(_STALE, param="token") from None
        assert user is not None, "nobody's password is nobody's"
        async with operation.writing() as session:
            await registration.verify_email(session, token=input_.token)
        await operation.services.forgetting.user(user.id)
        return VerifyEmailPayload(user=User.of(user))

    @mutation("Send the mail that verifies the viewer's address again.")
    async def resend_verification(
        self, info: Info, input_: ResendVerificationInput
    ) -> ResendVerificationPayload:
        """At most three an hour, then fewer."""
        operation = info.context
        user = await _viewer(operation)
        if input_.email is not None and normal_email(input_.email) != user.email:
            raise InvalidRequest("this is not the address of your account", param="email")
        await operation.services.people.throttle.admit([registration.mail_limit("verify", user.id.hex)])
        async with operation.writing() as session:
            await registration.ask_to_verify(session, operation.services.people.mailing, user_id=user.id)
        return ResendVerificationPayload(email=user.email)

    @mutation(
        "Ask for a mail that lets its reader choose a new password. The answer never says whether there is an account."
    )
    async def request_password_reset(
        self, info: Info, input_: RequestPasswordResetInput
    ) -> RequestPasswordResetPayload:
        """No answer and no delay tells which addresses have accounts."""
        operation, people = info.context, info.context.services.people
        email = normal_email(input_.email)
        await people.throttle.admit([registration.sign_up_limit(network_of(operation.client.address))])
        async with _no_sooner():
            if await _may_mail(people, email):
                async with operation.writing() as session:
                    await registration.ask_for_reset(session, people.mailing, email=email)
        return RequestPasswordResetPayload(email=email)

    @mutation("Choose a new password with the token of a mail. Ends every session of the person.")
    async def reset_password(self, info: Info, input_: ResetPasswordInput) -> ResetPasswordPayload:
        """The token is good once."""
        operation, people = info.context, info.context.services.people
        check_password(input_.new_password, param="new_password")
        async with operation.reading.trusted_session() as session:
            user = await user_of_token(session, input_.token, kind=MailKind.RESET_PASSWORD)
        await operation.reading.aclose()
        if (
            user is None
        ):  # No hash for a token that is none: this costs a stranger nothing and must cost us nothing.
            raise InvalidRequest("this link is wrong, used or expired; ask for another mail", param="token")
        check_password(input_.new_password, context=(user.email, user.name), param="new_password")
        password_hash = await people.password_work.hash(input_.new_password)
        async with operation.writing() as session:
            await registration.reset_password(
                session, people.mailing, token=input_.token, password_hash=password_hash
            )
        await operation.services.forgetting.user(user.id)
        return ResetPasswordPayload(user=User.of(user))

    @mutation("Choose a new password, given the one until now. Ends all other sessions of the person.")
    async def change_password(self, info: Info, input_: ChangePasswordInput) -> ChangePasswordPayload:
        """The session that asks goes on."""
        operation, people = info.context, info.context.services.people
        claims, user = await operation.claims(), await _viewer(operation)
        check_password(input_.new_password, context=(user.email, user.name), param="new_password")
        try:
            await people.password_login.prove(
                email=user.email, password=input_.current_password, address=operation.client.address
            )
        except NotAuthenticated:
            raise InvalidRequest("the current password is wrong", param="current_password") from None
        password_hash = await people.password_work.hash(input_.new_password)
        async with operation.writing() as session:
            await registration.replace_password(
                session,
                people.mailing,
                user_id=user.id,
                password_hash=password_hash,
                but=claims.session_id,
            )
        await operation.services.forgetting.user(user.id)
        return ChangePasswordPayload(user=User.of(user))


async def _viewer(operation: Operation) -> models.User:
    """The person who asks."""
    claims = await operation.claims()
    async with operation.reading.trusted_session() as session:
        user = await session.get_one(models.User, claims.user_id)
    await operation.reading.aclose()
    return user


async def _may_mail(people: People, email: str) -> bool:
    """Whether one more mail may go there. Past the limit nothing is said: that, too, would tell of an account."""
    try:
        await people.throttle.admit([registration.mail_limit("reset", network_of(email))])
    except Overloaded:
        return False
    return True


@asynccontextmanager
async def _no_sooner() -> AsyncIterator[None]:
    """Let the block take at least `ANSWER_S_MIN`, however it ends."""
    over = asyncio.get_running_loop().create_task(asyncio.sleep(ANSWER_S_MIN))
    try:
        yield
    finally:
        await over
