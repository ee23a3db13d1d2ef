"""What has landed: transactions by signature and by address, in the order of the chain."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from raymart_billing.solana.devchain.machine import Execution

_MEMO_PROGRAMS = frozenset(
    {
        Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"),
        Pubkey.from_string("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """A transaction in a block, whether it succeeded or failed there."""

    signature: str
    raw: bytes
    transaction: VersionedTransaction
    slot: int
    block_time: int
    """Seconds of the epoch."""
    position: int
    """How many landed before it."""
    execution: Execution

    @property
    def memo(self) -> str | None:
        """Its memos as `getSignaturesForAddress` shows them: each with its length in bytes in front."""
        keys = self.execution.keys
        memos = [
            bytes(instruction.data)
            for instruction in self.transaction.message.instructions
            if keys[instruction.program_id_index] in _MEMO_PROGRAMS
        ]
        texts = [f"[{len(memo)}] {memo.decode(errors='replace')}" for memo in memos]
        return "; ".join(texts) or None


class History:
    """All that has landed and was not forked away."""

    def __init__(self) -> None:
        self._by_signature: dict[str, Landed] = {}
        self._by_address: dict[Pubkey, list[Landed]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._by_signature)

    def add(self, landed: Landed) -> None:
        """It is the newest."""
        assert landed.signature not in self._by_signature
        self._by_signature[landed.signature] = landed
        for key in dict.fromkeys(landed.execution.keys):
            self._by_address[key].append(landed)

    def get(self, signature: str) -> Landed | None:
        """The transaction with this signature."""
        return self._by_signature.get(signature)

    def of_address(self, address: Pubkey) -> Iterator[Landed]:
        """Those that name `address`, newest first."""
        return reversed(self._by_address.get(address, ()))

    def newest_first(self) -> Iterator[Landed]:
        """All, newest first."""
        return reversed(self._by_signature.values())

    def take_back(self, *, to_slot: int) -> Sequence[Landed]:
        """Forget what landed after `to_slot`, and return it, newest first."""
        taken = []
        for landed in self.newest_first():
            if landed.slot <= to_slot:
                break
            taken.append(landed)
        for landed in taken:
            del self._by_signature[landed.signature]
            for key in dict.fromkeys(landed.execution.keys):
                # Newest first, so that it is the last one of each of its addresses.
                self._by_address[key].pop()
        return taken
