"""The head of the chain of seals, in a file outside the database."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest link: `position` 0 is the empty chain."""

    position: int
    hash: bytes

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Read "<position>:<hash in hex>", as a log line's fields give it. Raises: ValueError."""
        position, _, digest = text.partition(":")
        head = cls(position=int(position), hash=bytes.fromhex(digest))
        if head.position < 0 or len(head.hash) != 32:
            raise ValueError(f"{text!r} is no head; give <position>:<64 hex digits>")
        return head

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"


def read_head_file(path: Path) -> Head | None:
    """The head in `path`; None where there is no file yet. Raises: ValueError when it is not a head."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        return Head.parse(json.loads(text)["head"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} holds no head of the ledger's seals: {error}") from error


def write_head_file(path: Path, head: Head) -> None:
    """Replace the head in `path` in one durable step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process's number in the name: two sealers must not write into each other's staged file.
    staged = path.with_name(f"{path.name}.{os.getpid()}.staged")
    with staged.open("w") as file:
        file.write(json.dumps({"head": str(head)}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
