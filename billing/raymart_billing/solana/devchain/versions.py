"""What accounts were before their last changes, so that they can be read as of an earlier slot."""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final

from solders.account import Account
from solders.pubkey import Pubkey

from raymart_billing.solana.devchain.machine import Machine

SLOTS_KEPT: Final = 512
"""How far back accounts can be read: finality, and a node that is behind."""


class AccountVersions:
    """For each account that changed lately: in which slots, and what it was before."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._before: dict[Pubkey, deque[tuple[int, Account | None]]] = defaultdict(deque)

    def add(self, changed: Sequence[tuple[Pubkey, Account | None]], *, slot: int) -> None:
        """These accounts have changed in `slot`; each comes with what it was before."""
        for address, before in changed:
            versions = self._before[address]
            while versions and versions[0][0] < slot - SLOTS_KEPT:
                versions.popleft()
            # Only the first change of a slot matters: what is asked for is the end of the slot before.
            if not versions or versions[-1][0] != slot:
                versions.append((slot, before))

    def account(self, address: Pubkey, *, slot: int) -> Account | None:
        """The account at the end of `slot`."""
        for changed_in, before in self._before.get(address, ()):
            if changed_in > slot:
                return before
        return self._machine.account(address)

    def take_back(self, *, to_slot: int) -> None:
        """Put every account back to what it was at the end of `to_slot`."""
        for address, versions in self._before.items():
            undone: list[tuple[int, Account | None]] = []
            while versions and versions[-1][0] > to_slot:
                undone.append(versions.pop())
            if undone:
                self._machine.restore([(address, undone[-1][1])])
