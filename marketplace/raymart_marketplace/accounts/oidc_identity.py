"""Who somebody is at an OpenID provider."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a provider has logged in."""

    issuer: str
    subject: str
    """The person's id at the provider, which never changes; an e-mail address may."""
    email: str | None
    email_verified: bool
    name: str | None
