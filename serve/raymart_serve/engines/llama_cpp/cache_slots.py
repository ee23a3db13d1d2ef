"""Which of llama.cpp's slots a generation runs in, so that tenants never share a prompt's cache.

A slot keeps the prompt that it computed last, and a request that begins alike goes faster: left to itself, llama.cpp picks
the slot that fits best, whoever filled it, and the time to the first token tells one tenant what another has asked.
"""


class CacheSlots:
    """Hands out free slots. Used on one event loop, after the gate that counts them."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count))
        """The one that has been free longest comes first."""
        self._filled_by: dict[int, str] = {}

    def take(self, salt: str) -> tuple[int, bool]:
        """A free slot for a tenant, and whether its cache is the tenant's own: the latest of them, else the oldest slot."""
        assert self._free, "the gate lets in no more than there are slots"
        own = [slot for slot in self._free if self._filled_by.get(slot) == salt]
        slot = own[-1] if own else self._free[0]
        self._free.remove(slot)
        self._filled_by[slot] = salt
        return slot, bool(own)

    def give_back(self, slot: int) -> None:
        """The generation is over; its prompt stays in the slot."""
        self._free.append(slot)
