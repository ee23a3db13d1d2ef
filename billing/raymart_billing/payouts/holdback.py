"""The holdback: which part of an epoch's earnings is kept back, and for how long, by how far a provider is trusted. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

from raymart_core.errors import InvalidRequest
from raymart_core.money import BASIS_POINTS, ZERO, Money

TRUST_MAX = 100
TRUST_NEUTRAL = 50
"""Of who has no score."""
BANDS_MAX = 20
DAYS_MAX = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What is kept back of who is trusted at least `trust_min`."""

    trust_min: int
    """0 to 100."""
    basis_points: int
    """Of an epoch's earnings: 1,000 is a tenth."""
    days: int
    """For how long, from the epoch's end."""


DEFAULT_BANDS: Sequence[Band] = (
    Band(trust_min=0, basis_points=2_500, days=14),
    Band(trust_min=40, basis_points=1_000, days=7),
    Band(trust_min=80, basis_points=500, days=3),
)
"""What the first policy says: a tenth for a week of who is neither known as good nor as bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdback:
    """What is kept of one epoch's earnings, and for how long. Nothing is kept for no time."""

    amount: Money
    lasts: timedelta


NOTHING_KEPT = Holdback(amount=ZERO, lasts=timedelta(0))


def holdback_of(earned: Money, *, trust: int, bands: Sequence[Band], covered: Money) -> Holdback:
    """What is kept of `earned`, the epoch's earnings after what refunds took, in dollars.

    Never more than `covered`, what lies on the provider's account: it may not owe because of a holdback. Rounded down,
    in the provider's favour; nothing where nothing was earned.
    """
    assert 0 <= trust <= TRUST_MAX, f"trust of {trust}"
    band = next(band for band in reversed(bands) if trust >= band.trust_min)
    if earned <= ZERO or covered <= ZERO or band.days == 0:
        return NOTHING_KEPT
    amount = min(earned.portion_rounded_down(basis_points=band.basis_points), covered)
    return Holdback(amount=amount, lasts=timedelta(days=band.days)) if amount else NOTHING_KEPT


def check_bands(bands: Sequence[Band]) -> None:
    """Raises: InvalidRequest unless the bands cover every score once, in order, with shares and spans that can be."""
    if not 1 <= len(bands) <= BANDS_MAX:
        raise InvalidRequest(f"{len(bands)} bands of holdback; give 1 to {BANDS_MAX}", param="holdback_bands")
    starts = [band.trust_min for band in bands]
    if starts[0] != 0 or any(b <= a for a, b in pairwise(starts)):
        raise InvalidRequest(
            f"bands of holdback begin at a trust of {starts}; begin at 0 and rise", param="holdback_bands"
        )
    for band in bands:
        if not (
            band.trust_min <= TRUST_MAX
            and 0 <= band.basis_points <= BASIS_POINTS
            and 0 <= band.days <= DAYS_MAX
        ):
            raise InvalidRequest(
                f"the band {asdict(band)} is out of range: trust to {TRUST_MAX}, basis points to {BASIS_POINTS},"
                f" days to {DAYS_MAX}",
                param="holdback_bands",
            )


def bands_as_json(bands: Sequence[Band]) -> list[dict[str, Any]]:
    """The bands as a policy's row keeps them."""
    return [asdict(band) for band in bands]


def bands_of_json(rows: Sequence[Mapping[str, Any]]) -> tuple[Band, ...]:
    """The bands of a policy's row."""
    return tuple(Band(**row) for row in rows)
