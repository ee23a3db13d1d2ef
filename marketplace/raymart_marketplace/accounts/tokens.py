"""Access tokens: the one place that touches python-jose, and the checks that the library leaves out.

python-jose 3.5 on its own accepts a token signed with a public key in DER form as the HMAC secret, an unknown `crit`
header and a missing audience, and takes an empty secret. Therefore:

- a secret is bytes, at least 32, and nothing that looks like a key pair's half or like JSON;
- it is handed over as a ready HS256 key, so that nothing in a token (and no guess of the library) chooses how to check;
- the header must be exactly {"alg": "HS256", "typ": "at+jwt", "kid": ...}, where `kid` is only ever looked up among our
  own secrets' ids: no crit, jku, x5u, jwk, b64, zip;
- the claims must be exactly `exp iat iss aud sub jti` and perhaps `sid`, each of its one type, in canonical spelling;
- all failures are the same NotAuthenticated, so that an answer tells a forger nothing.

A secret is replaced without logging anybody out: every process first learns the new one among `former_secrets`, then
signs with it and keeps the old one there, and drops that once the longest token has expired.

Source: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (best current practice), RFC 9068 (`at+jwt`).
"""

import base64
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from jose import jwk, jws
from jose.backends.base import Key
from jose.constants import ALGORITHMS
from jose.exceptions import JOSEError

from raymart_core.clock import Clock, SystemClock
from raymart_core.errors import NotAuthenticated
from raymart_core.ids import Prefix, new_id, parse, show

TOKEN_BYTES_MAX = 4_096
SECRET_BYTES_MIN = 32
LEEWAY_S = 5
"""How far another process's clock may run ahead of ours before its fresh tokens are refused."""
TTL_S_MAX = 43_200
"""No token lives longer, whoever signed it."""

TYPE = "at+jwt"
FORMER_SECRETS_MAX = 4

_CLAIMS = frozenset({"exp", "iat", "iss", "aud", "sub", "jti"})
_CLAIMS_OF_SESSION = _CLAIMS | {"sid"}
_SEGMENTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_MESSAGE = "the access token is wrong or expired; log in again and send it as `Authorization: Bearer <token>`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says."""

    user_id: UUID
    expires_at: datetime
    token_id: UUID
    session_id: UUID | None = None
    """The log-in that the token was issued for; None for an operator's token, which ends by expiring."""


class AccessTokens:
    """Issues and verifies the access tokens of one marketplace."""

    def __init__(
        self,
        secret: bytes,
        *,
        former_secrets: Sequence[bytes] = (),
        issuer: str,
        audience: str,
        ttl_s: int,
        clock: Clock | None = None,
    ) -> None:
        """Sign with `secret`, accept what any of `former_secrets` signed too; tokens live `ttl_s` seconds.

        Raises: ValueError or TypeError when a secret is unfit.
        """
        assert 0 < ttl_s <= TTL_S_MAX
        if len(former_secrets) > FORMER_SECRETS_MAX:
            raise ValueError(f"{len(former_secrets)} former token secrets, more than {FORMER_SECRETS_MAX}")
        for each in (secret, *former_secrets):
            _check_secret(each)
        self._key_id = key_id(secret)
        # Ready keys instead of bytes: given bytes, the library would first try to read them as a JSON Web Key.
        self._keys = {
            key_id(each): jwk.construct(each, algorithm=ALGORITHMS.HS256)
            for each in (secret, *former_secrets)
        }
        self._issuer = issuer
        self._audience = audience
        self._ttl_s = ttl_s
        self._clock: Clock = clock or SystemClock()

    def issue(self, user_id: UUID, *, session_id: UUID | None = None) -> str:
        """A fresh token for `user_id`, which ends with the session where there is one."""
        issued_at = int(self._clock.now().timestamp())
        claims = {
            "sub": show(Prefix.USER, user_id),
            "iss": self._issuer,
            "aud": self._audience,
            "iat": issued_at,
            "exp": issued_at + self._ttl_s,
            "jti": new_id().hex,
            **({} if session_id is None else {"sid": session_id.hex}),
        }
        headers = {"typ": TYPE, "kid": self._key_id}
        return str(jws.sign(claims, self._keys[self._key_id], headers=headers, algorithm=ALGORITHMS.HS256))

    def verify(self, token: str) -> Claims:
        """What `token` says, when we signed it and it has not expired. Raises: NotAuthenticated."""
        try:
            return self._verified(token)
        # RecursionError: JSON nested so deep that the parser gives up.
        except (ValueError, RecursionError, JOSEError):
            raise NotAuthenticated(_MESSAGE) from None

    def seconds_left(self, claims: Claims) -> float:
        """Seconds until the token expires; negative afterwards."""
        return (claims.expires_at - self._clock.now()).total_seconds()

    def _verified(self, token: str) -> Claims:
        """As `verify`. Raises: ValueError, RecursionError or JOSEError, for whichever check failed."""
        header, payload = _segments(token)
        signed = jws.verify(token, self._key_of(_parse_object(header)), algorithms=[ALGORITHMS.HS256])
        _require(signed == payload, "the library and we read different payloads")
        return self._checked(_parse_object(payload))

    def _key_of(self, header: dict[str, object]) -> Key:
        """The secret of ours that `header` names. Raises: ValueError for one that we would not have written."""
        _require(header.keys() == {"alg", "typ", "kid"}, "header")
        _require(header["alg"] == ALGORITHMS.HS256 and header["typ"] == TYPE, "algorithm or type")
        name = header["kid"]
        # A dictionary of ours and nothing else: no path, query or address is ever made of what a token says.
        key = self._keys.get(name) if isinstance(name, str) else None
        if key is None:
            raise ValueError("key id")
        return key

    def _checked(self, claims: dict[str, object]) -> Claims:
        """Check the claims of a payload whose signature is good."""
        _require(claims.keys() in (_CLAIMS, _CLAIMS_OF_SESSION), "claims")
        _require(claims["iss"] == self._issuer and claims["aud"] == self._audience, "issuer or audience")
        issued_at, expires_at = _seconds(claims["iat"]), _seconds(claims["exp"])
        now = self._clock.now().timestamp()
        _require(issued_at <= now + LEEWAY_S, "issued in the future")
        _require(now < expires_at, "expired")
        _require(0 < expires_at - issued_at <= TTL_S_MAX, "life")
        user_id = claims["sub"]
        _require(isinstance(user_id, str), "subject")
        return Claims(
            user_id=parse(Prefix.USER, str(user_id)),
            expires_at=datetime.fromtimestamp(0, UTC) + timedelta(seconds=expires_at),
            token_id=_uuid(claims["jti"]),
            session_id=_uuid(claims["sid"]) if "sid" in claims else None,
        )


def key_id(secret: bytes) -> str:
    """What a token names its secret by, 16 characters: made of the secret, so that no process can mix two up.

    It gives away no more of the secret than a signature does.
    """
    return hmac.digest(secret, b"raymart access token key id", "sha256")[:8].hex()


def _check_secret(secret: bytes) -> None:
    """Refuse a `secret` that is no shared secret. Raises: TypeError, ValueError."""
    hint = "make one with `openssl rand -hex 32`"
    if not isinstance(secret, bytes):
        raise TypeError(f"the token secret is {type(secret).__name__}, not bytes")
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"the token secret has {len(secret)} bytes, fewer than {SECRET_BYTES_MIN}; {hint}")
    if _looks_public(secret):
        raise ValueError(f"the token secret looks like a key or certificate, which others may know; {hint}")


def _looks_public(secret: bytes) -> bool:
    """Whether `secret` looks like PEM, an SSH key, a JSON Web Key or DER, whose public halves are no secrets."""
    text = secret.lstrip()
    if b"-BEGIN " in text or text.startswith((b"ssh-", b"ecdsa-sha2-", b"sk-")):
        return True
    if text.startswith(b"{") and b'"kty"' in text:
        return True
    # DER (X.509): a SEQUENCE whose length covers the rest exactly. 44 bytes is the smallest public key (Ed25519),
    # so that a random secret of 32 bytes is never mistaken for one.
    if len(secret) < 44 or secret[0] != 0x30:
        return False
    length_bytes = secret[1] & 0x7F if secret[1] & 0x80 else 0
    length = int.from_bytes(secret[2 : 2 + length_bytes], "big") if length_bytes else secret[1]
    return len(secret) == 2 + length_bytes + length


def _segments(token: str) -> tuple[bytes, bytes]:
    """Header and payload, decoded. Raises: ValueError unless `token` is three canonical base64url segments."""
    _require(len(token) <= TOKEN_BYTES_MAX, "size")
    found = _SEGMENTS.fullmatch(token)
    if found is None:
        raise ValueError("segments")
    header, payload, _signature = (_decode(segment) for segment in found.groups())
    return header, payload


def _decode(segment: str) -> bytes:
    """The bytes of a base64url `segment`, whose unused last bits must be zero: one token has one spelling."""
    decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    _require(base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == segment, "base64url")
    return decoded


def _parse_object(text: bytes) -> dict[str, object]:
    """The JSON object in `text`. Raises: ValueError for another type, a repeated name, or a number that is no JSON."""
    parsed = json.loads(text.decode(), object_pairs_hook=_without_repeats, parse_constant=_refuse)
    if type(parsed) is not dict:
        raise ValueError("not an object")
    return parsed


def _without_repeats(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """An object's members. Parsers differ in which of two equal names wins; an attacker would choose."""
    members = dict(pairs)
    _require(len(members) == len(pairs), "a repeated name")
    return members


def _refuse(constant: str) -> None:
    """NaN and the infinities are no JSON. Raises: ValueError."""
    raise ValueError(f"{constant} is no JSON")


def _seconds(value: object) -> int:
    """`value` as Unix seconds. Raises: ValueError unless it is an integer; True and 1.0 are not."""
    if type(value) is not int or value < 0:
        raise ValueError("not a time")
    return value


def _uuid(value: object) -> UUID:
    """An id as 32 hex digits. Raises: ValueError for any other spelling: UUID() also takes braces and underscores."""
    _require(isinstance(value, str), "an id is text")
    identity = UUID(hex=str(value))
    _require(identity.hex == value, "spelling of an id")
    return identity


def _require(condition: bool, what: str) -> None:  # noqa: FBT001  (a condition is what this function is about)
    """Raises: ValueError naming `what` when `condition` is false."""
    if not condition:
        raise ValueError(what)
