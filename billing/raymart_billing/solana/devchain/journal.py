"""The chain on disk: one file of lines, in order, from which the same chain comes back.

The first line is the chain's seed and the time of its first block; each further line is something that happened: a
transaction that landed, a fork, slots skipped by hand. A process that dies in the middle of a line leaves a torn one;
it is cut off, as if it had not happened. Lines are written before anybody is told, and not synced: the file outlives
the process, not the machine.
"""

import base64
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from raymart_core.errors import RaymartError

JOURNAL_FILE = "chain.jsonl"


class JournalUnusable(RaymartError):
    """The file cannot be a chain's journal, or another process has it."""


class Genesis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line."""

    seed: str
    """32 bytes in hex; the faucet's key follows from it."""
    first_block_at: int
    """Seconds of the epoch."""


class LandedLine(msgspec.Struct, frozen=True, kw_only=True, tag="landed"):
    """A transaction landed in `slot`."""

    slot: int
    raw: str
    """Base64."""


class ForkLine(msgspec.Struct, frozen=True, kw_only=True, tag="fork"):
    """All after `to_slot` was taken back, in `slot`."""

    slot: int
    to_slot: int


class AdvanceLine(msgspec.Struct, frozen=True, kw_only=True, tag="advance"):
    """So many slots passed at once."""

    slots: int


Line = LandedLine | ForkLine | AdvanceLine


class Journal:
    """One chain's file, held by this process alone until `close`."""

    def __init__(self, descriptor: int, *, path: Path, genesis: Genesis, lines: bytes) -> None:
        self._descriptor = descriptor
        self._path = path
        self._lines = lines
        self.genesis = genesis

    @classmethod
    def open(cls, directory: Path, *, genesis: Genesis) -> Self:
        """The journal in `directory`; a new one begins with `genesis`. Raises: JournalUnusable."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / JOURNAL_FILE
        # 0600: the seed is the faucet's key.
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return cls._opened(descriptor, path, genesis)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def _opened(cls, descriptor: int, path: Path, genesis: Genesis) -> Self:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalUnusable(
                f"{path} is in use by another development chain; stop that one, or take another --data-dir"
            ) from None
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.ftruncate(descriptor, len(whole))
        first, _, rest = whole.partition(b"\n")
        if not first:
            _write(descriptor, genesis)
            return cls(descriptor, path=path, genesis=genesis, lines=b"")
        try:
            found = msgspec.json.decode(first, type=Genesis)
        except msgspec.DecodeError as error:
            raise _damaged(path, 1, error) from error
        return cls(descriptor, path=path, genesis=found, lines=rest)

    def replay(self) -> Iterator[Line]:
        """What happened before this process, once. Raises: JournalUnusable, for a line that is none."""
        lines, self._lines = self._lines, b""
        for number, line in enumerate(lines.splitlines(), start=2):
            try:
                yield msgspec.json.decode(line, type=Line)
            except msgspec.DecodeError as error:
                raise _damaged(self._path, number, error) from error

    def landed(self, raw: bytes, *, slot: int) -> None:
        """Add that `raw` landed."""
        _write(self._descriptor, LandedLine(slot=slot, raw=base64.b64encode(raw).decode()))

    def forked(self, *, slot: int, to_slot: int) -> None:
        """Add a fork."""
        _write(self._descriptor, ForkLine(slot=slot, to_slot=to_slot))

    def advanced(self, slots: int) -> None:
        """Add slots that passed at once."""
        _write(self._descriptor, AdvanceLine(slots=slots))

    def close(self) -> None:
        """Let others have the file."""
        os.close(self._descriptor)


def _write(descriptor: int, line: Genesis | Line) -> None:
    # One write: the file ends between lines unless the machine itself stops. Raises: OSError, when the disk is full.
    content = msgspec.json.encode(line) + b"\n"
    written = os.write(descriptor, content)
    if written != len(content):
        raise OSError(
            f"only {written} of {len(content)} bytes of the chain's journal were written; is the disk full?"
        )


def _damaged(path: Path, number: int, error: Exception) -> JournalUnusable:
    return JournalUnusable(
        f"line {number} of {path} is damaged ({error}); restore the file, or remove it for a new chain, on which"
        " nothing of the old one has happened"
    )
