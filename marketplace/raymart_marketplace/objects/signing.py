"""Signed URLs of our own route, for stores that cannot sign.

A URL names one object until one moment; what is changed of either makes the signature wrong. Keys of the signature are
made of the secrets that sign access tokens, so URLs live through a replacement of those as tokens do.
"""

import base64
import hmac
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlencode

from raymart_core.errors import Forbidden
from raymart_marketplace.accounts.derived_keys import derived_key

EXPIRES_PARAM = "expires"
SIGNATURE_PARAM = "signature"
_DIGITS_MAX = 12


class UrlSigner:
    """Makes and checks URLs below `base_url`. Source: RFC 2104 (HMAC), SHA-256."""

    def __init__(self, base_url: str, secrets: Sequence[bytes], *, now: Callable[[], float]) -> None:
        """`secrets`: the one that signs first, then those that are still believed. `now`: seconds since 1970."""
        assert secrets, "no secret to sign with"
        self._base_url = base_url
        self._keys = tuple(derived_key(each, purpose="object urls") for each in secrets)
        self._now = now

    def url(self, key: str, *, expires_s: float) -> str:
        """A URL that opens `key` for the next `expires_s` seconds, by GET and HEAD."""
        expires = str(int(self._now() + expires_s))
        query = urlencode({EXPIRES_PARAM: expires, SIGNATURE_PARAM: _signature(self._keys[0], key, expires)})
        return f"{self._base_url}/{quote(key)}?{query}"

    def left_s(self, key: str, *, expires: str, signature: str) -> float:
        """Seconds for which the URL still opens `key`. Raises: Forbidden."""
        # Compared as bytes: compare_digest refuses text that is not ASCII.
        given = signature.encode("utf-8", "surrogatepass")
        known = (_signature(each, key, expires).encode() for each in self._keys)
        if len(expires) > _DIGITS_MAX or not any(hmac.compare_digest(each, given) for each in known):
            raise Forbidden("the URL's signature does not fit; ask for a new URL and use it as it is")
        left = int(expires) - self._now()
        if left <= 0:
            raise Forbidden("the URL has expired; ask for a new one")
        return left


def _signature(secret: bytes, key: str, expires: str) -> str:
    said = f"{key}\n{expires}".encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(secret, said, "sha256")).rstrip(b"=").decode()
