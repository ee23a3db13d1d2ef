"""Refresh tokens: `rmr_` and 43 characters that spell 32 bytes.

A session's first token is random. Each next one is an HMAC of the one before, under a key that only the marketplace has:
a client whose answer was lost asks again with the old token and gets the very same successor, though only hashes are kept.
Who steals the table learns neither; who steals a token cannot compute its successor.
"""

import base64
import hashlib
import hmac
import re
import secrets

from raymart_marketplace.accounts.derived_keys import derived_key

_TOKEN = re.compile(r"rmr_[A-Za-z0-9_-]{43}", re.ASCII)


class RefreshTokens:
    """Makes a marketplace's refresh tokens."""

    def __init__(self, secret: bytes) -> None:
        """`secret` is the marketplace's; its replacement voids only retries that are under way."""
        self._key = derived_key(secret, purpose="refresh token successor")

    def first(self) -> str:
        """The first token of a session."""
        return _spelt(secrets.token_bytes(32))

    def successor(self, token: str) -> str:
        """The one token that may follow `token`."""
        return _spelt(hmac.digest(self._key, token.encode(), "sha256"))


def is_refresh_token(text: str) -> bool:
    """Whether `text` has the form of one; what has not is refused without asking the database."""
    return _TOKEN.fullmatch(text) is not None


def hash_refresh_token(token: str) -> bytes:
    """What is stored of a token, 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def _spelt(content: bytes) -> str:
    return "rmr_" + base64.urlsafe_b64encode(content).rstrip(b"=").decode()
