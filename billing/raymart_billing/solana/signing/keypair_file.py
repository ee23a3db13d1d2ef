"""A key in a file, as `solana-keygen` writes it: a JSON array of 64 numbers.

Whoever reads the file owns the treasury, so it is refused unless it is this process's own and nobody else's to read.
No error tells of its content.
"""

import os
import stat
from pathlib import Path
from typing import Self

import msgspec
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from raymart_billing.solana.errors import SignerMisconfigured

FILE_BYTES_MAX = 4_096
KEYPAIR_BYTES = 64
OTHERS = 0o177
"""Permissions that nobody may have: the owner's to execute, and all of the group and the rest."""


class KeypairFileSigner:
    """Signs with a key that this process holds in memory."""

    def __init__(self, keypair: Keypair) -> None:
        self._keypair = keypair

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the key at `path`. Raises: SignerMisconfigured, saying what to do."""
        return cls(_parse(_read_private(path), path))

    @property
    def address(self) -> Pubkey:
        """The public key."""
        return self._keypair.pubkey()

    async def sign(self, message: bytes) -> Signature:
        """The signature of `message`."""
        return self._keypair.sign_message(message)

    async def aclose(self) -> None:
        """Nothing is open."""


def _read_private(path: Path) -> bytes:
    """The file's content, after looking at the very file that is open: a path can be swapped between two looks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise SignerMisconfigured(
            f"the treasury's keypair {str(path)!r} cannot be opened ({error.strerror}); RAYMART_TREASURY_KEYPAIR must"
            " name a file, not a link, that this process may read"
        ) from error
    try:
        _check_private(os.fstat(descriptor), path)
        return os.read(descriptor, FILE_BYTES_MAX)
    finally:
        os.close(descriptor)


def _check_private(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SignerMisconfigured(
            f"the treasury's keypair {str(path)!r} is no regular file; name the file itself"
        )
    if found.st_uid != os.geteuid():
        raise SignerMisconfigured(
            f"the treasury's keypair {str(path)!r} belongs to user {found.st_uid} and this process runs as"
            f" {os.geteuid()}; `chown` it, or run the worker as its owner"
        )
    if found.st_mode & OTHERS:
        raise SignerMisconfigured(
            f"the treasury's keypair {str(path)!r} has mode {stat.S_IMODE(found.st_mode):04o}: others can read or"
            f" change it; `chmod 0600 {path}`, and replace the key if anybody may have read it"
        )


def _parse(content: bytes, path: Path) -> Keypair:
    try:
        numbers = msgspec.json.decode(content, type=list[int])
        if len(numbers) != KEYPAIR_BYTES:
            raise ValueError
        # Checks that the second half is the public key of the first.
        return Keypair.from_bytes(bytes(numbers))
    except (ValueError, OverflowError):
        # Not chained: the cause may quote the key.
        raise SignerMisconfigured(
            f"the treasury's keypair {str(path)!r} is no JSON array of the {KEYPAIR_BYTES} numbers of a key and its"
            " public half; `solana-keygen new --outfile` writes one"
        ) from None
