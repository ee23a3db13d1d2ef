"""Time on the chain: slots, the blocks in them, and which slot it is now."""

from collections.abc import Callable
from typing import Final

SLOT_S: Final = 0.4
"""How long a slot takes on mainnet, seconds."""
FIRST_SLOT: Final = 1_001
FINALITY_SLOTS: Final = 32
"""A block is finalized when 32 slots were built on it: 12.8 s."""
BLOCKHASH_BLOCKS: Final = 150
"""A transaction may land while at most so many blocks came after the one whose hash it carries.

Source: MAX_PROCESSING_AGE of Agave's clock module.
"""
_SKIPPED_EVERY: Final = 20


def block_slot(slot: int) -> int:
    """The newest slot up to `slot` that has a block.

    Every 20th slot has none, as on mainnet, where leaders miss some: who takes a slot for a block height is found out.
    """
    return slot - 1 if slot % _SKIPPED_EVERY == 0 else slot


def block_height(slot: int) -> int:
    """How many blocks there are up to `slot`."""
    return slot - slot // _SKIPPED_EVERY


class SlotClock:
    """Which slot it is: by the time since the first one, or by hand (`slot_s=None`)."""

    def __init__(
        self, *, slot_s: float | None, started_at: float = 0.0, now: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._slot_s = slot_s
        self._started_at = started_at
        self._now = now
        self._advanced = 0
        self._newest = FIRST_SLOT

    @property
    def slot(self) -> int:
        """The present slot. It never goes back, whatever the machine's clock does."""
        passed = int((self._now() - self._started_at) / self._slot_s) if self._slot_s is not None else 0
        self._newest = max(self._newest, FIRST_SLOT + self._advanced + passed)
        return self._newest

    def advance(self, slots: int) -> None:
        """Let `slots` go by at once."""
        assert slots >= 0
        self._advanced += slots

    def reach(self, slot: int) -> None:
        """Let it be `slot` at least."""
        self._advanced += max(0, slot - self.slot)
