"""Login providers and what is linked to them."""

from datetime import datetime

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_marketplace.accounts.oidc_models import OidcIdentity


@strawberry.type(description="An OpenID provider that people may log in with.")
class LoginProvider:
    """Configured by the operator."""

    name: str = strawberry.field(description="Its name in addresses.")
    issuer: str = strawberry.field(description="Who vouches for people.")
    start_url: str = strawberry.field(
        description="Where the browser begins; add `?challenge=` with the base64url SHA-256 of a random verifier."
    )


@strawberry.type(description="A person's identity at a login provider.")
class LinkedLogin:
    """Visible to the person."""

    issuer: str = strawberry.field(description="Who vouches for the person.")
    email: str | None = strawberry.field(description="The address that the provider last said.")
    linked_at: datetime = strawberry.field(description="When it was linked.")
    last_login_at: datetime | None = strawberry.field(description="When it last logged the person in.")

    @classmethod
    def of(cls, row: OidcIdentity) -> "LinkedLogin":
        """`row` as the API shows it."""
        return cls(
            issuer=row.issuer,
            email=row.email,
            linked_at=row.created_at,
            last_login_at=row.last_login_at,
        )


@strawberry.type
class OidcQuery:
    """Root fields of the domain."""

    @resolved("OpenID providers that people may log in with.")
    async def login_providers(self, info: Info) -> list[LoginProvider]:
        """From the settings; ten at most."""
        services = info.context.services
        return [
            LoginProvider(
                name=name,
                issuer=client.settings.issuer,
                start_url=client.redirect_uri.removesuffix("callback") + "start",
            )
            for name, client in services.oidc_logins.clients.items()
        ]
