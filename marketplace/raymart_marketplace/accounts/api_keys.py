"""API keys: `rm_live_` and 43 characters that spell 32 random bytes.

The secret is random, so one SHA-256 is enough to keep it by (a slow hash protects what people choose themselves),
and looking it up by that hash tells a guesser nothing by its timing.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass

KEY_PREFIX = "rm_live_"
SHOWN_CHARACTERS = 12
"""How much of a key is kept in the clear, to recognise it by: the prefix and four characters."""

_KEY = re.compile(r"rm_live_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that was just made; `text` is shown once and kept nowhere."""

    text: str
    prefix: str
    key_hash: bytes


def make_key() -> NewKey:
    """A fresh key."""
    text = KEY_PREFIX + secrets.token_urlsafe(32)
    return NewKey(text=text, prefix=text[:SHOWN_CHARACTERS], key_hash=hash_key(text))


def is_key(text: str) -> bool:
    """Whether `text` has the form of a key; what has not is refused without asking the database."""
    return _KEY.fullmatch(text) is not None


def hash_key(text: str) -> bytes:
    """What is stored of a key, 32 bytes."""
    return hashlib.sha256(text.encode()).digest()
