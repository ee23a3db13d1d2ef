"""The development chain in one process: the chain, its nodes, and a faucet."""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from solders.keypair import Keypair

from raymart_billing.solana.devchain.chain import Chain
from raymart_billing.solana.devchain.development import development_methods
from raymart_billing.solana.devchain.faucet import Faucet
from raymart_billing.solana.devchain.faults import Faults
from raymart_billing.solana.devchain.history import Landed
from raymart_billing.solana.devchain.journal import Genesis, Journal
from raymart_billing.solana.devchain.node import Node
from raymart_billing.solana.devchain.slots import SLOT_S, SlotClock, block_height

SEED_BYTES: Final = 32
_FIRST_BLOCK_AT: Final = 1_790_000_000
"""The first block's time where slots are moved by hand, seconds of the epoch: the same in every run."""


class DevChain:
    """A Solana chain without validators: real programs; slots, expiry, finality and forks by a clock.

    By default a slot passes when `advance` is called, and every chain has a genesis hash of its own. `handle` asks its
    first node; `node()` adds others, which see the same chain and have faults of their own. Not for threads: one event
    loop, or nobody else.
    """

    def __init__(
        self,
        *,
        seed: bytes | None = None,
        clock: SlotClock | None = None,
        first_block_at: int = _FIRST_BLOCK_AT,
        journal: Journal | None = None,
    ) -> None:
        self._seed = os.urandom(SEED_BYTES) if seed is None else seed
        keypair = Keypair.from_seed(_derived(self._seed, b"faucet"))
        self.chain = Chain(
            seed=self._seed,
            faucet=keypair.pubkey(),
            clock=clock or SlotClock(slot_s=None),
            first_block_at=first_block_at,
            journal=journal,
        )
        self.faucet = Faucet(self.chain, keypair)
        self.first_node = self.node()

    @classmethod
    def persistent(
        cls, directory: Path, *, slot_s: float = SLOT_S, now: Callable[[], float] = time.time
    ) -> "DevChain":
        """The chain that is kept in `directory`, begun when there is none, with slots by the clock.

        Slots go on while nobody runs it, as on any chain. Raises: JournalUnusable.
        """
        begun = Genesis(seed=os.urandom(SEED_BYTES).hex(), first_block_at=int(now()))
        journal = Journal.open(directory, genesis=begun)
        genesis = journal.genesis
        return cls(
            seed=bytes.fromhex(genesis.seed),
            clock=SlotClock(slot_s=slot_s, started_at=genesis.first_block_at, now=now),
            first_block_at=genesis.first_block_at,
            journal=journal,
        )

    def close(self) -> None:
        """Let another process have the chain's file."""
        self.chain.close()

    @property
    def faults(self) -> Faults:
        """The faults of the first node."""
        return self.first_node.faults

    @property
    def slot(self) -> int:
        """The newest slot."""
        return self.chain.slot("processed")

    @property
    def block_height(self) -> int:
        """The newest block's height: less than the slot, because some slots have no block."""
        return block_height(self.slot)

    @property
    def landed(self) -> int:
        """How many transactions have landed."""
        return len(self.chain.history)

    @property
    def genesis_hash(self) -> str:
        """What tells this chain from others."""
        return str(self.chain.genesis_hash)

    @property
    def finality_slots(self) -> int:
        """After how many slots a block is final; more makes finality slow, for what is not final yet."""
        return self.chain.finality_slots

    @finality_slots.setter
    def finality_slots(self, slots: int) -> None:
        self.chain.finality_slots = slots

    async def handle(self, request: Mapping[str, object]) -> dict[str, object]:
        """The first node's response to one JSON-RPC request. Raises: NodeUnavailable, as a broken connection."""
        return await self.first_node.handle(request)

    def node(self) -> Node:
        """Another node of this chain, healthy as yet."""
        return Node(self.chain, more_methods=development_methods(self.chain, self.faucet))

    def advance(self, slots: int = 1) -> int:
        """Let slots pass; what is under way lands when it is due. Returns the newest slot."""
        self.chain.advance(slots)
        return self.slot

    def finalize(self) -> int:
        """Let as many slots pass as make all that has landed final. Returns the newest slot."""
        return self.advance(self.finality_slots)

    def expire(self, last_valid_block_height: int) -> int:
        """Let slots pass until the *finalized* height is above `last_valid_block_height`. Returns the newest slot."""
        while block_height(self.chain.slot("finalized")) <= last_valid_block_height:
            self.advance(1)
        return self.slot

    def rollback(self, slots: int) -> Sequence[Landed]:
        """A fork takes the last `slots` slots with all that landed in them, which is returned, newest first.

        Raises: ValueError, when a finalized block would go.
        """
        return self.chain.rollback(slots)


def _derived(seed: bytes, purpose: bytes) -> bytes:
    return hashlib.sha256(seed + b" " + purpose).digest()
