"""What one node sees of the chain: all of it, or what its faults leave."""

from collections.abc import Iterator

from solders.account import Account
from solders.pubkey import Pubkey

from raymart_billing.solana.devchain.chain import CONFIRMED_SLOTS, Chain, Commitment
from raymart_billing.solana.devchain.errors import CONTEXT_SLOT_NOT_REACHED, RpcError
from raymart_billing.solana.devchain.faults import Faults
from raymart_billing.solana.devchain.history import Landed
from raymart_billing.solana.devchain.params import Config
from raymart_billing.solana.devchain.shapes import Shape
from raymart_billing.solana.devchain.slots import BLOCKHASH_BLOCKS, FIRST_SLOT, block_height, block_slot

API_VERSION = "4.1.2"
"""The release of Agave whose interface this follows."""


class NodeView:
    """The chain through a node with `faults`."""

    def __init__(self, chain: Chain, faults: Faults) -> None:
        self.chain = chain
        self.faults = faults
        self.forged: dict[str, Landed] = {}
        """What this node shows as finalized although it never landed, by signature."""

    def slot(self, commitment: Commitment) -> int:
        """The newest slot of this commitment, as far as the node has come."""
        now = max(FIRST_SLOT, block_slot(self.chain.slot("processed") - self.faults.slots_behind))
        if commitment == "processed" or (commitment == "finalized" and self.faults.is_finality_early):
            return now
        if commitment == "confirmed":
            return max(FIRST_SLOT, block_slot(now - CONFIRMED_SLOTS))
        return max(FIRST_SLOT, block_slot(self.chain.slot("finalized") - self.faults.slots_behind))

    def reached(self, config: Config) -> int:
        """The slot that a request is answered from. Raises: RpcError, when it is before `minContextSlot`."""
        slot = self.slot(config.commitment())
        floor = config.number("minContextSlot")
        if floor is not None and slot < floor:
            raise RpcError(
                CONTEXT_SLOT_NOT_REACHED, "Minimum context slot has not been reached", {"contextSlot": slot}
            )
        return slot

    def answer(self, value: object, *, slot: int) -> Shape:
        """A value beside the slot it is from."""
        return {"context": {"slot": slot, "apiVersion": API_VERSION}, "value": value}

    def last_valid(self, slot: int) -> int:
        """The last block height at which a transaction with the blockhash of `slot` may land."""
        return block_height(slot) + BLOCKHASH_BLOCKS

    def account(self, address: Pubkey, *, slot: int) -> Account | None:
        """The account at the end of `slot`."""
        account = self.chain.account(address, slot=slot)
        return account if account is not None else self._forged_account(address)

    def landed(self, signature: str) -> Landed | None:
        """The transaction, unless the node has not come so far."""
        landed = self.forged.get(signature) or self.chain.history.get(signature)
        return landed if landed is not None and landed.slot <= self.slot("processed") else None

    def landed_at(self, address: Pubkey, commitment: Commitment) -> Iterator[Landed]:
        """The transactions that name `address`, at least so far along; newest first."""
        newest = self.slot(commitment)
        yield from (forged for forged in reversed(self.forged.values()) if address in forged.execution.keys)
        yield from (landed for landed in self.chain.history.of_address(address) if landed.slot <= newest)

    def commitment_of(self, landed: Landed) -> Commitment:
        """How far along a transaction is."""
        if landed.signature in self.forged or landed.slot <= self.slot("finalized"):
            return "finalized"
        return "confirmed" if landed.slot <= self.slot("confirmed") else "processed"

    def has_reached(self, landed: Landed, commitment: Commitment) -> bool:
        """Whether a transaction is so far along."""
        return landed.signature in self.forged or landed.slot <= self.slot(commitment)

    def _forged_account(self, address: Pubkey) -> Account | None:
        """An account that only a forged transaction would have made."""
        for forged in self.forged.values():
            execution = forged.execution
            if address in execution.keys:
                at = execution.keys.index(address)
                if execution.before[at] is None and execution.after[at] is not None:
                    return execution.after[at]
        return None
