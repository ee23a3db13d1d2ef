"""Passwords: argon2id by pwdlib.

Both functions take tens of milliseconds of a core and block; a coroutine runs them with `asyncio.to_thread`.
"""

import unicodedata

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from raymart_core.errors import InvalidRequest

LENGTH_MIN = 10
LENGTH_MAX = 128
"""Characters. The upper bound keeps a request from buying seconds of hashing."""

# 32 MiB, two passes, one lane: about 50 ms on one core of the machine this was measured on, and above OWASP's
# minimum for argon2id (19 MiB, two passes). One lane, because a server has its other cores for other requests.
_HASHER = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=32 * 1024, parallelism=1),))

NOBODYS_HASH = (
    "$argon2id$v=19$m=32768,t=2,p=1$+1s4Dohgc8Yp44dyhCaC1Q$1dAWBBDxpals4G1lkbIo3xJc/tZSO4jddSpYZe8uHxo"
)
"""Hash of a random password that was thrown away. It is verified against when there is no such user, so that the time
of the answer does not tell which e-mail addresses have accounts. Has the parameters of `_HASHER` (tested)."""


def hash_password(password: str) -> str:
    """The argon2id hash of `password`, in PHC form, with a fresh salt. Blocks for about 50 ms.

    Raises: InvalidRequest when it is shorter than 10 or longer than 128 characters, or no Unicode text.
    """
    normal = _normal(password)
    if not LENGTH_MIN <= len(normal) <= LENGTH_MAX:
        raise InvalidRequest(
            f"the password has {len(normal)} characters; use {LENGTH_MIN} to {LENGTH_MAX}", param="password"
        )
    try:
        return _HASHER.hash(normal.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(
            "the password has a lone surrogate, which is no text", param="password"
        ) from None


def verify_password(password: str, password_hash: str) -> bool:
    """Whether `password` is the one behind `password_hash`. Blocks for about 50 ms.

    A password that no account can have (too long, no text) is refused at once: that tells nothing about an account.
    """
    normal = _normal(password)
    if len(normal) > LENGTH_MAX:
        return False
    try:
        return _HASHER.verify(normal.encode(), password_hash)
    except UnicodeEncodeError:
        return False


def _normal(password: str) -> str:
    """One form of `password`: keyboards differ in how they compose an accented letter. Over-long text is left alone."""
    return password if len(password) > 4 * LENGTH_MAX else unicodedata.normalize("NFC", password)
