"""Money: whole numbers of an asset's smallest unit. A float never touches it.

Prices are nano-USD per unit (token, megapixel-step, GPU-second), so that a price times a count is exact.
Where a division cannot be exact, the method's name says which way it rounds.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Self

from msgspec import Struct

BASIS_POINTS = 10_000
"""One whole, in basis points."""
AMOUNT_MAX = 2**63 - 1
"""The most that the database's bigint holds."""


class Asset(StrEnum):
    """What an amount counts."""

    USD = "usd"
    """US dollars in units of 1e-9 (nano-USD); a bigint holds 9.2 billion dollars."""
    USDC = "usdc"
    """USDC on Solana in units of 1e-6, the base unit of its mint."""


DECIMALS = {Asset.USD: 9, Asset.USDC: 6}
"""Decimal places of each asset's smallest unit."""


class Money(Struct, frozen=True, gc=False, omit_defaults=True):
    """`amount` smallest units of `asset` (nano-USD unless said otherwise). Negative amounts are differences."""

    amount: int
    asset: Asset = Asset.USD

    def __post_init__(self) -> None:
        assert type(self.amount) is int, f"money is whole units, not {self.amount!r}"
        if not -AMOUNT_MAX <= self.amount <= AMOUNT_MAX:
            raise ValueError(f"{self.amount} is over the largest amount, {AMOUNT_MAX}")

    @classmethod
    def parse(cls, text: str, asset: Asset = Asset.USD) -> Self:
        """Read a decimal string such as "1.25" exactly.

        Raises: ValueError when `text` is no number or has more places than the asset.
        """
        try:
            units = Decimal(text).scaleb(DECIMALS[asset])
        except ArithmeticError:
            raise ValueError(f"{text!r} is not a decimal number such as '12.50'") from None
        if not units.is_finite() or units != units.to_integral_value():
            raise ValueError(
                f"{text!r} is finer than the smallest unit of {asset.value}, 1e-{DECIMALS[asset]}"
            )
        return cls(int(units), asset)

    def decimal(self) -> Decimal:
        """The amount in whole dollars (or whole USDC), exact."""
        return Decimal(self.amount).scaleb(-DECIMALS[self.asset])

    def decimal_text(self) -> str:
        """The same as text, with every decimal place of the asset: "0.000001230"."""
        places = DECIMALS[self.asset]
        digits = f"{abs(self.amount):0{places + 1}d}"
        return f"{'-' if self.amount < 0 else ''}{digits[:-places]}.{digits[-places:]}"

    def portion_rounded_down(self, *, basis_points: int) -> "Money":
        """The share of `basis_points` / 10,000 of this amount, rounded towards zero; the rest is the other side's."""
        assert 0 <= basis_points <= BASIS_POINTS, f"{basis_points} basis points"
        assert self.amount >= 0, f"a portion of {self}"
        return Money(self.amount * basis_points // BASIS_POINTS, self.asset)

    def __add__(self, other: "Money") -> "Money":
        return Money(self.amount + self._same_asset(other), self.asset)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.amount - self._same_asset(other), self.asset)

    def __mul__(self, count: int) -> "Money":
        return Money(self.amount * count, self.asset)

    def __lt__(self, other: "Money") -> bool:
        return self.amount < self._same_asset(other)

    def __le__(self, other: "Money") -> bool:
        return self.amount <= self._same_asset(other)

    def __gt__(self, other: "Money") -> bool:
        return self.amount > self._same_asset(other)

    def __ge__(self, other: "Money") -> bool:
        return self.amount >= self._same_asset(other)

    def __bool__(self) -> bool:
        return self.amount != 0

    def __str__(self) -> str:
        return f"{self.decimal():f} {self.asset.value.upper()}"

    def _same_asset(self, other: "Money") -> int:
        assert self.asset is other.asset, f"cannot mix {self} and {other}"
        return other.amount


ZERO = Money(0)
"""No dollars."""
