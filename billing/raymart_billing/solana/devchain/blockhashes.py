"""The hash of each block, and which block a hash belongs to. A fork gives the blocks that replace its own new hashes."""

import hashlib

from solders.hash import Hash

from raymart_billing.solana.devchain.slots import BLOCKHASH_BLOCKS, FIRST_SLOT, block_height, block_slot

_SLOTS_KEPT = 2 * BLOCKHASH_BLOCKS


class Blockhashes:
    """Hashes that follow from the seed, the slot and the forks before it: nothing has to be stored."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._forks: list[int] = []
        self._slots: dict[Hash, int] = {}
        self._known_upto = FIRST_SLOT - 1

    def at(self, slot: int) -> Hash:
        """The hash of the newest block up to `slot`."""
        block = block_slot(slot)
        # The last fork below a slot made its block.
        fork = next(
            (number for number in range(len(self._forks), 0, -1) if self._forks[number - 1] < block), 0
        )
        return Hash(hashlib.sha256(self._seed + b"block %d %d" % (block, fork)).digest())

    def fork(self, to_slot: int) -> None:
        """All blocks above `to_slot` are other ones from now on; hashes of the ones before belong to none."""
        self._forks.append(to_slot)
        self._slots.clear()
        self._known_upto = FIRST_SLOT - 1

    def height_of(self, blockhash: Hash, *, now_slot: int) -> int | None:
        """The height of the block with this hash among the last 150 and some; None when there is none."""
        if len(self._slots) > 2 * _SLOTS_KEPT:
            self._slots.clear()
            self._known_upto = FIRST_SLOT - 1
        start = max(self._known_upto + 1, now_slot - _SLOTS_KEPT)
        for slot in range(start, now_slot + 1):
            if block_slot(slot) == slot:
                self._slots[self.at(slot)] = slot
        self._known_upto = max(self._known_upto, now_slot)
        slot_of_it = self._slots.get(blockhash)
        return None if slot_of_it is None else block_height(slot_of_it)

    def is_valid(self, blockhash: Hash, *, now_slot: int) -> bool:
        """Whether a transaction with this hash may land in `now_slot`."""
        height = self.height_of(blockhash, now_slot=now_slot)
        return height is not None and block_height(now_slot) <= height + BLOCKHASH_BLOCKS
