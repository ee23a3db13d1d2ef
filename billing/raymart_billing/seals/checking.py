"""A chain of seals against the rows of its log: which row was changed, removed, or written behind the chain."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from raymart_billing.connections import Connection
from raymart_billing.seals.chain import Columns, SealedLog
from raymart_billing.seals.head import Head

_ROWS_PER_FETCH = 2_000


@dataclass(slots=True, kw_only=True)
class Chain:
    """How far a chain reaches; filled while it is read."""

    sealed: int = 0
    """Rows with a seal."""
    unsealed: int = 0
    """Settled or running ones that wait for theirs: those of the last seconds."""
    head: Head | None = None
    """The newest seal."""
    are_hashes_checked: bool = False


@dataclass(slots=True)
class Link:
    """A seal: what it says, and what it should say after its row."""

    noun: str
    position: int
    row_id: int
    stored: bytes
    computed: bytes | None = None
    """None where nothing could be computed: no key, no row, or no link before."""
    order: tuple[int, int] = (0, 0)
    is_suspect: bool = False
    """Its hash did not fit. The next link tells whether the row was changed or the seal."""

    def __str__(self) -> str:
        return f"{self.noun} {self.row_id} (sealed at position {self.position})"


class Reader:
    """Reads a chain from its first link on; `see` one seal with its row after the other, then `end`."""

    def __init__(self, sealed_log: SealedLog, chain: Chain, *, key: bytes | None, head: Head | None) -> None:
        self._log = sealed_log
        self._chain = chain
        self._key = key
        self._head = head
        self._last = Link(sealed_log.noun, 0, 0, bytes(32), computed=bytes(32))
        chain.are_hashes_checked = key is not None

    def see(self, position: int, row_id: int, stored: bytes, columns: Columns) -> Sequence[str]:
        """What is wrong with this seal or the one before it; each finding names one bad row."""
        seen = Link(self._log.noun, position, row_id, bytes(stored), order=self._last.order)
        found = list(self._judged(seen, columns))
        if self._head is not None and position == self._head.position and seen.stored != self._head.hash:
            found.append(f"the seal of {seen} is not the one that the head outside names")
        self._chain.sealed += 1
        self._last = seen
        return found

    def end(self) -> Sequence[str]:
        """What is wrong with the chain's end."""
        last, found = self._last, []
        if last.is_suspect:
            found.append(f"{last} or its seal was changed after it was sealed")
        if last.position:
            self._chain.head = Head(position=last.position, hash=last.stored)
        if self._head is not None and self._head.position > last.position:
            found.append(
                f"seals {last.position + 1} to {self._head.position} are gone: "
                f"the chain ends at position {last.position}, the head outside names {self._head.position}"
            )
        return found

    def _judged(self, seen: Link, columns: Columns) -> Sequence[str]:
        """What is wrong between two neighbours, the earlier one's part first; completes `seen`."""
        last, found = self._last, []
        is_next = seen.position == last.position + 1
        if not is_next:
            found.append(f"seals {last.position + 1} to {seen.position - 1} are gone")
        if columns[0] is None:
            # With it goes what would tell whether a suspect before it was changed or its seal.
            return [*_verdict(last, is_seal_changed=False), *found, f"{seen} is gone"]
        seen.order = self._log.order(columns)
        if seen.order <= last.order:
            found.append(f"{seen} is out of order: its transaction or number was changed")
        is_seal_changed = False
        if self._key is not None and is_next:
            seen.computed = self._log.link(self._key, last.stored, columns)
            if seen.computed != seen.stored:
                is_seal_changed = self._fits(last, columns, seen.stored)
                seen.is_suspect = not is_seal_changed
                if is_seal_changed:
                    seen.computed = seen.stored
        return [*_verdict(last, is_seal_changed=is_seal_changed), *found]

    def _fits(self, last: Link, columns: Columns, stored: bytes) -> bool:
        """Whether `stored` follows what the suspect before it should have said: then only its seal was changed."""
        assert self._key is not None
        is_known = last.is_suspect and last.computed is not None
        return is_known and self._log.link(self._key, last.computed or b"", columns) == stored


def _verdict(last: Link, *, is_seal_changed: bool) -> Sequence[str]:
    """The word on `last`, now that the link after it is known."""
    if not last.is_suspect:
        return []
    return [
        f"the seal at position {last.position} ({last.noun} {last.row_id}) was changed"
        if is_seal_changed
        else f"{last}, or what is sealed with it, was changed after it was sealed"
    ]


async def unsealed_findings(
    connection: Connection, sealed_log: SealedLog, statement: bytes, chain: Chain
) -> AsyncIterator[str]:
    """Rows without a seal: `statement` gives (id, whether it is older than the last seal), the older first."""
    async with connection.cursor("unsealed_rows") as cursor:
        cursor.itersize = _ROWS_PER_FETCH
        await cursor.execute(statement)
        async for row_id, is_behind in cursor:
            if is_behind:
                yield f"{sealed_log.noun} {row_id} was written behind the chain: it is older than the last seal and has none"
            else:
                chain.unsealed += 1
