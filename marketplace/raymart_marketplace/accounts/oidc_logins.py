"""A login at an OpenID provider, from the browser's leaving to a one-time code. Everything between lies in Redis, by hash.

Three secrets tie the steps together: `state` ties the provider's answer to the request, a cookie ties both to the
browser that began (nobody can finish a login of theirs in somebody else's browser), and the code that comes out works
only with the verifier whose challenge the page gave at the start, so that a code in a log is of no use.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from raymart_core.errors import InvalidRequest, NotAuthenticated, NotFound, Unavailable
from raymart_marketplace.accounts.oidc_identity import Identity
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

if TYPE_CHECKING:  # 3 MB that a process needs whose marketplace has a provider.
    from raymart_marketplace.accounts.oidc_client import OidcClient

STATE_TTL_S = 600
"""How long somebody may take at the provider."""
CODE_TTL_S = 60
KEY = "raymart:oidc:"
OIDC_PREFIX = "/auth/oidc"
"""Where the paths of a login begin."""

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_STALE = "this login is unknown, used up or too old; begin again"
_AWAY = "logging in by a provider is away for the moment; try again in a second"


class _Begun(msgspec.Struct, frozen=True):
    """A browser that is at its provider."""

    provider: str
    nonce: str
    verifier: str
    challenge: str
    cookie_hash: bytes


class _Done(msgspec.Struct, frozen=True):
    """Who came back."""

    provider: str
    challenge: str
    issuer: str
    subject: str
    email: str | None
    email_verified: bool
    name: str | None


_Kept = TypeVar("_Kept", _Begun, _Done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Where the browser goes, and what it keeps."""

    url: str
    cookie: str


class OidcLogins:
    """Logins at the configured providers. One per process."""

    def __init__(self, clients: "Mapping[str, OidcClient]", redis: Redis) -> None:
        """`clients` by the provider's name."""
        self._clients = clients
        self._redis = redis

    @property
    def clients(self) -> "Mapping[str, OidcClient]":
        """By the provider's name."""
        return self._clients

    async def begin(self, provider: str, *, challenge: str) -> Beginning:
        """Send a browser to `provider`; `challenge` is S256 of the verifier that the page keeps.

        Raises: NotFound, InvalidRequest, Unavailable when the provider or Redis is away.
        """
        client = self._client(provider)
        if _CHALLENGE.fullmatch(challenge) is None:
            raise InvalidRequest(
                "challenge must be the base64url SHA-256 of a verifier, 43 characters", param="challenge"
            )
        state, cookie, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        verifier = secrets.token_urlsafe(48)
        url = await client.authorization_url(state=state, nonce=nonce, verifier=verifier)
        begun = _Begun(
            provider=provider,
            nonce=nonce,
            verifier=verifier,
            challenge=challenge,
            cookie_hash=_hash(cookie),
        )
        await self._keep("state", state, begun, ttl_s=STATE_TTL_S)
        return Beginning(url=url, cookie=cookie)

    async def finish(self, provider: str, *, answer: Mapping[str, str], cookie: str | None) -> str:
        """Take the provider's `answer` once, in the browser that began; returns the code for `redeem`.

        Raises: NotFound, NotAuthenticated, Unavailable when the provider or Redis is away.
        """
        client = self._client(provider)
        begun = await self._take("state", answer.get("state", ""), _Begun)
        # A state of another provider: somebody mixes them up.
        if begun.provider != provider or not hmac.compare_digest(begun.cookie_hash, _hash(cookie or "")):
            raise NotAuthenticated(_STALE)
        found = await client.exchange(answer, nonce=begun.nonce, verifier=begun.verifier)
        code = secrets.token_urlsafe(32)
        done = _Done(
            provider=provider,
            challenge=begun.challenge,
            issuer=found.issuer,
            subject=found.subject,
            email=found.email,
            email_verified=found.email_verified,
            name=found.name,
        )
        await self._keep("code", code, done, ttl_s=CODE_TTL_S)
        return code

    async def redeem(self, *, code: str, verifier: str) -> Identity:
        """Who logged in, once, for the page that began. Raises: NotAuthenticated, Forbidden, Unavailable."""
        done = await self._take("code", code, _Done)
        if _VERIFIER.fullmatch(verifier) is None or not hmac.compare_digest(
            _challenge_of(verifier), done.challenge
        ):
            raise NotAuthenticated(_STALE, param="verifier")
        return Identity(
            issuer=done.issuer,
            subject=done.subject,
            email=done.email,
            email_verified=done.email_verified,
            name=done.name,
        )

    async def aclose(self) -> None:
        """Close the connections to providers."""
        for client in self._clients.values():
            await client.aclose()

    def domains_of(self, issuer: str) -> frozenset[str]:
        """E-mail domains that the issuer's people must be of; none asked for when empty."""
        for client in self._clients.values():
            if client.settings.issuer == issuer:
                return frozenset(domain.lower() for domain in client.settings.allowed_domains)
        return frozenset()

    def _client(self, provider: str) -> "OidcClient":
        client = self._clients.get(provider)
        if client is None:
            raise NotFound(f"there is no login provider {provider[:60]!r}")
        return client

    async def _keep(self, kind: str, secret: str, value: msgspec.Struct, *, ttl_s: int) -> None:
        try:
            await self._redis.set(_key(kind, secret), msgspec.json.encode(value), ex=ttl_s)
        except REDIS_AWAY as error:
            raise Unavailable(_AWAY) from error

    async def _take(self, kind: str, secret: str, shape: type[_Kept]) -> _Kept:
        """What was kept, once. Raises: NotAuthenticated, Unavailable."""
        try:
            found = await self._redis.getdel(_key(kind, secret))
        except REDIS_AWAY as error:
            raise Unavailable(_AWAY) from error
        if found is None:
            raise NotAuthenticated(_STALE)
        return msgspec.json.decode(found, type=shape)


def _key(kind: str, secret: str) -> str:
    return f"{KEY}{kind}:{_hash(secret).hex()}"


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _challenge_of(verifier: str) -> str:
    """S256. Source: RFC 7636, 4.2."""
    return base64.urlsafe_b64encode(_hash(verifier)).rstrip(b"=").decode()
