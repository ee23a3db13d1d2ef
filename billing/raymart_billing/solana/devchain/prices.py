"""What was paid for compute units lately."""

from collections.abc import Sequence

from solders.pubkey import Pubkey

from raymart_billing.solana.devchain.history import History, Landed
from raymart_billing.solana.devchain.machine import unit_price_and_limit, written_keys
from raymart_billing.solana.devchain.slots import BLOCKHASH_BLOCKS, FIRST_SLOT, block_slot


def recent_prices(
    history: History, addresses: frozenset[Pubkey], *, upto_slot: int
) -> Sequence[tuple[int, int]]:
    """Per block of the last 150 slots: the lowest price of a transaction that could write to one of `addresses`.

    Micro-lamports per compute unit; 0 where there was none. No addresses = all transactions count.
    """
    start = max(FIRST_SLOT, upto_slot - BLOCKHASH_BLOCKS + 1)
    lowest: dict[int, int] = {}
    for landed in history.newest_first():
        if landed.slot < start:
            break
        if landed.slot <= upto_slot and _could_write(landed, addresses):
            price, _ = unit_price_and_limit(landed.transaction.message)
            lowest[landed.slot] = min(price, lowest.get(landed.slot, price))
    blocks = [slot for slot in range(start, upto_slot + 1) if block_slot(slot) == slot]
    return [(slot, lowest.get(slot, 0)) for slot in blocks]


def _could_write(landed: Landed, addresses: frozenset[Pubkey]) -> bool:
    if not addresses:
        return True
    written = written_keys(landed.transaction.message)
    return not addresses.isdisjoint(written) or not addresses.isdisjoint(landed.execution.loaded_writable)
