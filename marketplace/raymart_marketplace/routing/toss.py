"""Chance for routing that can be repeated: the same seed gives the same decision over the same endpoints."""

from uuid import UUID

from msgspec import Struct

MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    """Scatter 64 bits over 64 bits. Source: the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def point(identity: UUID) -> int:
    """An endpoint's place on the ring of 2^64 places, for round robin and for affinity."""
    number = identity.int
    return mix((number ^ (number >> 64)) & MASK)


class Toss(Struct, frozen=True, gc=False):
    """What is chance in one decision."""

    seed: int
    """64 bits."""
    cursor: int = 0
    """Place on the ring of who was served last by round robin."""

    def share(self, place: int) -> float:
        """A number in (0, 1), evenly spread, that belongs to `place` under this seed."""
        # 52 bits and a half: neither 0 nor, by rounding, 1.
        return ((mix((self.seed ^ place) & MASK) >> 12) + 0.5) * 2.0**-52

    def number(self, draw: int) -> float:
        """The number in [0, 1) of the decision's draw number `draw`."""
        return (mix((self.seed + draw * _GOLDEN) & MASK) >> 11) * 2.0**-53


NO_CHANCE = Toss(seed=0)
"""For orders in which chance plays no part, and for tests."""
