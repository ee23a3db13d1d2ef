"""The chain itself: blocks without validators. Nodes (`node.py`) answer requests about it."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from solders.account import Account
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from raymart_billing.solana.devchain.blockhashes import Blockhashes
from raymart_billing.solana.devchain.history import History, Landed
from raymart_billing.solana.devchain.journal import (
    AdvanceLine,
    ForkLine,
    Journal,
    JournalUnusable,
    LandedLine,
)
from raymart_billing.solana.devchain.machine import Execution, Machine
from raymart_billing.solana.devchain.slots import (
    FINALITY_SLOTS,
    FIRST_SLOT,
    SLOT_S,
    SlotClock,
    block_slot,
)
from raymart_billing.solana.devchain.versions import SLOTS_KEPT, AccountVersions

Commitment = Literal["processed", "confirmed", "finalized"]
CONFIRMED_SLOTS: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Underway:
    """A transaction that a leader has, and will put into the block of `due_slot` if it still may."""

    raw: bytes
    due_slot: int


class Chain:
    """Slots, blocks, landing, finality and forks over one machine.

    `finality_slots` may be changed while it runs: more makes finality slow; what is final stays final.
    """

    def __init__(
        self,
        *,
        seed: bytes,
        faucet: Pubkey,
        clock: SlotClock,
        first_block_at: int,
        journal: Journal | None = None,
    ) -> None:
        self.clock = clock
        self.finality_slots = FINALITY_SLOTS
        self.blockhashes = Blockhashes(seed)
        self.machine = Machine(faucet=faucet)
        self.versions = AccountVersions(self.machine)
        self.history = History()
        self.genesis_hash = Hash(hashlib.sha256(seed + b"genesis").digest())
        self._first_block_at = first_block_at
        self._finalized = FIRST_SLOT
        self._underway: list[_Underway] = []
        self._journal: Journal | None = None
        if journal is not None:
            self._replay(journal)
            self._journal = journal

    def slot(self, commitment: Commitment) -> int:
        """The newest slot of this commitment that has a block."""
        # During a slot without a block the one before stays the newest, and takes what is sent.
        now = block_slot(self.clock.slot)
        if commitment == "processed":
            return now
        if commitment == "confirmed":
            return max(FIRST_SLOT, block_slot(now - CONFIRMED_SLOTS))
        self._finalized = max(self._finalized, block_slot(now - self.finality_slots))
        return self._finalized

    def blockhash(self, slot: int) -> Hash:
        """The hash of the newest block up to `slot`."""
        return self.blockhashes.at(slot)

    def block_time(self, slot: int) -> int:
        """When the block of `slot` was made, seconds of the epoch."""
        return self._first_block_at + int((slot - FIRST_SLOT) * SLOT_S)

    def account(self, address: Pubkey, *, slot: int) -> Account | None:
        """The account at the end of `slot`, as far back as accounts are kept."""
        return self.versions.account(address, slot=slot)

    def catch_up(self) -> None:
        """Land what has become due. Called before the chain is looked at."""
        # Also fixes what is final by now, before finality is made slower.
        self.slot("finalized")
        now = self.slot("processed")
        due = [underway for underway in self._underway if underway.due_slot <= now]
        if due:
            self._underway = [underway for underway in self._underway if underway.due_slot > now]
            for underway in sorted(due, key=lambda one: one.due_slot):
                self.land(underway.raw, slot=underway.due_slot)

    def advance(self, slots: int) -> None:
        """Let `slots` go by, and one more when the last has no block; what becomes due in them lands in its slot."""
        if block_slot(self.clock.slot + slots) != self.clock.slot + slots:
            slots += 1
        self.clock.advance(slots)
        if self._journal is not None:
            self._journal.advanced(slots)
        self.catch_up()

    def send(self, raw: bytes, *, delay_slots: int) -> None:
        """A leader gets the transaction; it is put into the present block, or into one `delay_slots` later."""
        now = self.slot("processed")
        if delay_slots == 0:
            self.land(raw, slot=now)
        else:
            self._underway.append(_Underway(raw=raw, due_slot=now + delay_slots))

    def land(self, raw: bytes, *, slot: int) -> Landed | None:
        """Put a transaction into the block at `slot`; None when no block may hold it."""
        transaction = VersionedTransaction.from_bytes(raw)
        block = block_slot(slot)
        if not self._may_land(transaction, slot=block):
            return None
        landed = self._included(raw, transaction, slot=block)
        if landed is not None and self._journal is not None:
            self._journal.landed(raw, slot=block)
        return landed

    def _included(self, raw: bytes, transaction: VersionedTransaction, *, slot: int) -> Landed | None:
        """Execute it as part of the block at `slot`; None when its fee cannot be paid."""
        self.machine.set_time(slot=slot, unix_time=self.block_time(slot))
        execution = self.machine.execute(transaction)
        if not execution.is_included:
            return None
        landed = Landed(
            signature=str(transaction.signatures[0]),
            raw=raw,
            transaction=transaction,
            slot=slot,
            block_time=self.block_time(slot),
            position=len(self.history),
            execution=execution,
        )
        self.history.add(landed)
        self.versions.add(execution.changed, slot=slot)
        return landed

    def try_out(self, transaction: VersionedTransaction) -> Execution:
        """What would happen to it now, signatures and blockhash aside."""
        now = self.slot("processed")
        self.machine.set_time(slot=now, unix_time=self.block_time(now))
        return self.machine.try_out(transaction)

    def rollback(self, slots: int) -> Sequence[Landed]:
        """A fork: the last `slots` slots get other blocks, empty ones. Returns what they held, newest first.

        Hashes of the blocks that are gone are no blockhashes any more, and what carries one can never land.

        Raises: ValueError, when a finalized block would go.
        """
        self.catch_up()
        now = self.slot("processed")
        to_slot = now - slots
        # Accounts are kept no longer.
        finalized = max(self.slot("finalized"), now - SLOTS_KEPT)
        if to_slot < finalized:
            raise ValueError(
                f"a fork of {slots} slots would undo slot {to_slot + 1}, and {finalized} is final; "
                f"at most {now - finalized} slots can go, or make finality slower beforehand"
            )
        taken = self._take_back(to_slot=to_slot)
        if self._journal is not None:
            self._journal.forked(slot=now, to_slot=to_slot)
        return taken

    def close(self) -> None:
        """Write nothing any more."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _may_land(self, transaction: VersionedTransaction, *, slot: int) -> bool:
        """What a leader checks before it executes."""
        if self.history.get(str(transaction.signatures[0])) is not None:
            return False
        if not self.blockhashes.is_valid(transaction.message.recent_blockhash, now_slot=slot):
            return False
        return all(transaction.verify_with_results())

    def _take_back(self, *, to_slot: int) -> Sequence[Landed]:
        self.versions.take_back(to_slot=to_slot)
        self.blockhashes.fork(to_slot)
        return self.history.take_back(to_slot=to_slot)

    def _replay(self, journal: Journal) -> None:
        """Let everything happen again that the journal tells of. Raises: JournalUnusable."""
        for line in journal.replay():
            match line:
                case LandedLine():
                    self.clock.reach(line.slot)
                    raw = base64.b64decode(line.raw)
                    # It was checked when it landed; only the outcome is wanted.
                    if self._included(raw, VersionedTransaction.from_bytes(raw), slot=line.slot) is None:
                        raise JournalUnusable(f"the transaction of slot {line.slot} does not land again")
                case ForkLine():
                    self.clock.reach(line.slot)
                    self._take_back(to_slot=line.to_slot)
                case AdvanceLine():
                    self.clock.advance(line.slots)
