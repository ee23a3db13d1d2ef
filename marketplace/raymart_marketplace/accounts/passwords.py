"""Passwords: argon2id by pwdlib.

Both functions take tens of milliseconds of a core and block; a coroutine goes through `PasswordWork`.
"""

import unicodedata

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from raymart_core.errors import InvalidRequest

LENGTH_MIN = 8
"""Source: NIST SP 800-63B, 5.1.1.2; what is common is refused besides (`password_policy`)."""
LENGTH_MAX = 128
"""Characters. The upper bound keeps a request from buying seconds of hashing."""

# OWASP's recommended cost of argon2id: 19 MiB, two passes, one lane; about 22 ms on one core of the machine this was
# measured on. One lane, because a server has its other cores for other requests. (RFC 9106's low-memory profile, 64 MiB,
# three passes and four lanes, took 190 ms of CPU there: five log-ins a second.) A log-in hashes anew what is kept with
# other parameters. Source: OWASP Password Storage Cheat Sheet.
_HASHER = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),))

NOBODYS_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$skIJE4xoo3DQdrs+2aDnjA$DvY46lgcpl98OYgS6k7xlAbqpf+bU3xLeIOrUGw3yCo"
)
"""Hash of a random password that was thrown away. It is verified against when there is no such user, so that the time
of the answer does not tell which e-mail addresses have accounts. Has the parameters of `_HASHER` (tested)."""


def hash_password(password: str) -> str:
    """The argon2id hash of `password`, in PHC form, with a fresh salt. Blocks for about 25 ms.

    Raises: InvalidRequest when it is shorter than 8 or longer than 128 characters, or no Unicode text.
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
    """Whether `password` is the one behind `password_hash`. Blocks for about 25 ms.

    A password that no account can have (too long, no text) is refused at once: that tells nothing about an account.
    """
    normal = _normal(password)
    if len(normal) > LENGTH_MAX:
        return False
    try:
        return _HASHER.verify(normal.encode(), password_hash)
    except UnicodeEncodeError:
        return False


def is_outdated(password_hash: str) -> bool:
    """Whether the hash has other parameters than are used now: hash the password anew when it is at hand."""
    return password_hash.rsplit("$", 2)[0] != NOBODYS_HASH.rsplit("$", 2)[0]


def _normal(password: str) -> str:
    """One form of `password`: keyboards differ in how they compose a letter. Over-long text is left alone.

    Source: NIST SP 800-63B, 5.1.1.2: NFKC or NFKD.
    """
    return password if len(password) > 4 * LENGTH_MAX else unicodedata.normalize("NFKC", password)
