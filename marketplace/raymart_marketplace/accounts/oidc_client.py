"""A relying party of one OpenID provider: authorization code with PKCE, and an ID token that is checked in full.

Source: OpenID Connect Core 1.0 (3.1), Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (issuer in the answer, against mix-up),
RFC 9700 (best current practice).

To be imported where providers are configured: what it takes is 3 MB.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx
import structlog
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from raymart_core.errors import NotAuthenticated
from raymart_marketplace.accounts.oidc_fetching import (
    TIMEOUT_S,
    ProviderAway,
    asking,
    capped_transport,
    fetch_object,
    object_of,
)
from raymart_marketplace.accounts.oidc_identity import Identity
from raymart_marketplace.settings import OidcProviderSettings

log = structlog.get_logger(__name__)

ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "EdDSA"})
"""Of ID tokens: key pairs only, so that nothing public can be a secret, and never `none`."""
METADATA_TTL_S = 3_600.0
KEYS_RETRY_S = 30.0
"""A token with an unknown key has the keys fetched again, this often at most: providers rotate theirs."""
LEEWAY_S = 30
ID_TOKEN_BYTES_MAX = 16_384
SUBJECT_CHARACTERS_MAX = 255
"""Source: OpenID Connect Core 1.0, 2."""
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_REFUSED = "the login provider's answer is not good; begin again"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    algorithms: Sequence[str]
    auth_method: str
    says_issuer: bool
    """Whether its answers carry `iss`."""
    until: float


class OidcClient:
    """Talks to one provider. One per process and provider."""

    def __init__(
        self,
        settings: OidcProviderSettings,
        *,
        redirect_uri: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """The provider sends people back to `redirect_uri`, exactly as it is registered there."""
        self.settings = settings
        self.redirect_uri = redirect_uri
        self._monotonic = monotonic
        self._metadata: _Metadata | None = None
        self._keys: KeySet | None = None
        self._keys_at = -KEYS_RETRY_S
        self._http: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close its connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes to log in. Raises: ProviderAway."""
        async with asking(self.settings.name):
            client = self._client()
            metadata = await self._discover(client)
        url: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            self.settings.client_id,
            "code",
            redirect_uri=self.redirect_uri,
            scope=list(self.settings.scopes),
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return url

    async def exchange(self, answer: Mapping[str, str], *, nonce: str, verifier: str) -> Identity:
        """Trade the code in the provider's `answer` (the query of its redirect) for who has logged in.

        Raises: NotAuthenticated when the provider refuses, or its answer does not hold; ProviderAway.
        """
        async with asking(self.settings.name):
            client = self._client()
            metadata = await self._discover(client)
            self._check_issuer(answer, metadata)
            code = answer.get("code")
            if not code:
                log.info("oidc.refused", provider=self.settings.name, error=answer.get("error", "")[:100])
                raise NotAuthenticated("the login provider did not log you in; begin again")
            token = await self._token(client, metadata, code, verifier)
            return await self._identity(client, metadata, token, nonce)

    def _check_issuer(self, answer: Mapping[str, str], metadata: _Metadata) -> None:
        """Against mix-up: an answer of another provider must not have its code sent here. Raises: NotAuthenticated."""
        said = answer.get("iss")
        if (said is None and metadata.says_issuer) or said not in (None, self.settings.issuer):
            log.warning("oidc.mixed_up", provider=self.settings.name)
            raise NotAuthenticated(_REFUSED)

    async def _token(
        self, client: httpx.AsyncClient, metadata: _Metadata, code: str, verifier: str
    ) -> Mapping[str, Any]:
        """The token endpoint's answer. Raises: NotAuthenticated for a code that is not good; ValueError, httpx.HTTPError."""
        settings = self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        secret = settings.client_secret.get_secret_value()
        if metadata.auth_method == "client_secret_basic":
            # Encoded before they are joined by a colon. Source: RFC 6749, 2.3.1.
            auth = httpx.BasicAuth(quote_plus(settings.client_id), quote_plus(secret))
            response = await client.post(metadata.token_endpoint, data=form, auth=auth)
        else:
            form |= {"client_id": settings.client_id, "client_secret": secret}
            response = await client.post(metadata.token_endpoint, data=form)
        answer = object_of(response.content)
        if response.status_code in (400, 401) and "error" in answer:
            log.info("oidc.code_refused", provider=settings.name, error=str(answer["error"])[:100])
            raise NotAuthenticated(_REFUSED)
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}")
        return answer

    async def _identity(
        self, client: httpx.AsyncClient, metadata: _Metadata, token: Mapping[str, Any], nonce: str
    ) -> Identity:
        """The ID token's subject, once everything about it holds. Raises: NotAuthenticated."""
        text = token.get("id_token")
        if not isinstance(text, str) or len(text) > ID_TOKEN_BYTES_MAX:
            raise NotAuthenticated(_REFUSED)
        try:
            decoded = await self._decoded(client, metadata, text)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                options={
                    "iss": {"essential": True, "value": self.settings.issuer},
                    "aud": {"essential": True, "value": self.settings.client_id},
                    "nonce": {"essential": True, "value": nonce},
                },
                params={
                    "nonce": nonce,
                    "client_id": self.settings.client_id,
                    "access_token": token.get("access_token"),
                },
            )
            claims.validate(now=int(time.time()), leeway=LEEWAY_S)
            return _identity(claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            log.warning("oidc.token_refused", provider=self.settings.name, error=type(error).__name__)
            raise NotAuthenticated(_REFUSED) from None

    async def _decoded(self, client: httpx.AsyncClient, metadata: _Metadata, text: str) -> jwt.Token:
        """The token with its signature checked by one of the provider's keys; an unknown key has them fetched anew."""
        keys = self._keys
        if keys is not None:
            try:
                return jwt.decode(text, keys, algorithms=list(metadata.algorithms))
            except (JoseError, ValueError):
                if self._monotonic() - self._keys_at < KEYS_RETRY_S:
                    raise
        self._keys_at = self._monotonic()
        self._keys = KeySet.import_key_set(await fetch_object(client, metadata.jwks_uri))  # type: ignore[arg-type]  # checked there
        return jwt.decode(text, self._keys, algorithms=list(metadata.algorithms))

    async def _discover(self, client: httpx.AsyncClient) -> _Metadata:
        """The provider's metadata, an hour old at most. Raises: ValueError, httpx.HTTPError."""
        known = self._metadata
        if known is not None and self._monotonic() < known.until:
            return known
        issuer = self.settings.issuer
        found = await fetch_object(client, issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise ValueError(f"issuer {str(found.get('issuer'))[:100]!r} is not {issuer!r}")
        endpoints = {name: _endpoint(found.get(name), issuer) for name in _ENDPOINTS}
        offered = found.get("id_token_signing_alg_values_supported", ["RS256"])
        algorithms = sorted(ALGORITHMS.intersection(offered))
        if not algorithms:
            raise ValueError("no algorithm for ID tokens that we take")
        methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        self._metadata = _Metadata(
            **endpoints,
            algorithms=algorithms,
            auth_method="client_secret_basic" if "client_secret_basic" in methods else "client_secret_post",
            says_issuer=found.get("authorization_response_iss_parameter_supported") is True,
            until=self._monotonic() + METADATA_TTL_S,
        )
        return self._metadata

    def _client(self) -> httpx.AsyncClient:
        # Made at the first login, once: the certificates that it trusts take tens of milliseconds to read.
        if self._http is None:
            self._http = httpx.AsyncClient(
                transport=capped_transport(), timeout=TIMEOUT_S, follow_redirects=False, trust_env=False
            )
        return self._http


def _endpoint(value: object, issuer: str) -> str:
    """An endpoint of the metadata: HTTPS, as the issuer is; HTTP where the issuer is on this machine, for development."""
    if (
        not isinstance(value, str)
        or urlsplit(value).scheme != urlsplit(issuer).scheme
        or not urlsplit(value).netloc
    ):
        raise ValueError(f"endpoint {str(value)[:100]!r}")
    return value


def _identity(claims: CodeIDToken) -> Identity:
    """Raises: ValueError for claims of other types than the specification's."""
    subject, email, name = claims["sub"], claims.get("email"), claims.get("name")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX:
        raise ValueError("subject")
    return Identity(
        issuer=claims["iss"],
        subject=subject,
        email=email if isinstance(email, str) else None,
        # Some providers write it as text; only the real true counts.
        email_verified=claims.get("email_verified") is True,
        name=name if isinstance(name, str) else None,
    )


__all__ = ["Identity", "OidcClient", "ProviderAway"]
