"""What a page does with the one-time code that a login at a provider gave."""

import strawberry

from raymart_core.errors import NotFound
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.schema.oidc.types import LinkedLogin
from raymart_graphql.schema.sessions.entering import enter
from raymart_graphql.schema.sessions.payloads import SessionPayload
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.accounts import oidc_accounts
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.session_models import LoginMethod
from raymart_marketplace.oversight.switches import Feature


@strawberry.input(description="What a login at a provider gave.")
class ExchangeLoginCodeInput:
    """The page's side of a login."""

    code: str = strawberry.field(description="`login_code` of the address that the browser came back to.")
    verifier: str = strawberry.field(description="The random text whose SHA-256 was the challenge.")


@strawberry.type(description="What exchangeLoginCode gives back.")
class ExchangeLoginCodePayload(SessionPayload):
    """A session's tokens, or why there are none."""


@strawberry.input(description="What a login at a provider gave.")
class LinkOidcIdentityInput:
    """The page's side of a login."""

    code: str = strawberry.field(description="`login_code` of the address that the browser came back to.")
    verifier: str = strawberry.field(description="The random text whose SHA-256 was the challenge.")


@strawberry.type(description="What linkOidcIdentity gives back.")
class LinkOidcIdentityPayload(Payload):
    """The link, or why there is none."""

    login: LinkedLogin | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="The login to unlink.")
class UnlinkOidcIdentityInput:
    """One of the viewer's."""

    provider: str = strawberry.field(description="The login provider's name.")


@strawberry.type(description="What unlinkOidcIdentity gives back.")
class UnlinkOidcIdentityPayload(Payload):
    """What was unlinked, or why it was not."""

    login: LinkedLogin | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type
class OidcMutation:
    """Root fields of the domain."""

    @mutation(
        "Trade the one-time code of a login at a provider for a session, within a minute. The first time makes an "
        "account, unless the e-mail address has one: that is linked from inside."
    )
    async def exchange_login_code(
        self, info: Info, input_: ExchangeLoginCodeInput
    ) -> ExchangeLoginCodePayload:
        """A code is good for one try; who has enrolled a second factor gets a challenge instead of tokens."""
        operation, payload = info.context, ExchangeLoginCodePayload()
        logins = operation.services.oidc_logins
        identity = await logins.redeem(code=input_.code, verifier=input_.verifier)
        async with operation.writing() as session:
            user = await oidc_accounts.user_of_identity(
                session,
                identity,
                domains=logins.domains_of(identity.issuer),
                takes_new=operation.services.controls.is_on(Feature.SIGNUPS),
            )
        await enter(operation, payload, user=user, method=LoginMethod.OIDC)
        return payload

    @mutation("Let the login at a provider, of which the code is, log the viewer in from now on.")
    async def link_oidc_identity(self, info: Info, input_: LinkOidcIdentityInput) -> LinkOidcIdentityPayload:
        """Asked by who is logged in already: that is the proof that the account is theirs."""
        operation = info.context
        logins = operation.services.oidc_logins
        identity = await logins.redeem(code=input_.code, verifier=input_.verifier)
        principal = await operation.principal()
        async with operation.writing() as session:
            linked = await oidc_accounts.link_identity(
                session,
                await session.get_one(User, principal.user_id),
                identity,
                domains=logins.domains_of(identity.issuer),
            )
        return LinkOidcIdentityPayload(login=LinkedLogin.of(linked))

    @mutation("Let the viewer's login at a provider log them in no more.")
    async def unlink_oidc_identity(
        self, info: Info, input_: UnlinkOidcIdentityInput
    ) -> UnlinkOidcIdentityPayload:
        """Who has no password sets one by a reset first."""
        client = info.context.services.oidc_logins.clients.get(input_.provider)
        if client is None:
            raise NotFound(f"there is no login provider {input_.provider[:60]!r}", param="provider")
        principal = await info.context.principal()
        async with info.context.writing() as session:
            gone = await oidc_accounts.unlink_identity(
                session,
                await session.get_one(User, principal.user_id),
                issuer=client.settings.issuer,
            )
        return UnlinkOidcIdentityPayload(login=LinkedLogin.of(gone))
