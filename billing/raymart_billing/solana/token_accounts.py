"""Token accounts as the chain keeps them, and transactions that create those that are missing.

Only SPL Token's own: USDC is of that program, and an account of another one (Token-2022, with fees and hooks) is no
account of ours. Source: SPL Token's `Account` and `Mint` layouts.
"""

from dataclasses import dataclass
from typing import Self

from solders.pubkey import Pubkey
from spl.token.constants import TOKEN_PROGRAM_ID

from raymart_billing.solana.answers import ChainAccount

TOKEN_ACCOUNT_BYTES = 165
MINT_BYTES = 82
CREATED_MAX = 10
"""Token accounts that one transaction can create: each takes six of the 64 entries of a transaction's trace."""
FROZEN_STATE = 2


class NotATokenAccount(ValueError):
    """What lies at the address is no initialized account of SPL Token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccount:
    """An account that holds `amount` base units (micro-USDC) of `mint` for `owner`."""

    mint: Pubkey
    owner: Pubkey
    amount: int
    is_frozen: bool
    """Nothing can be sent to or from it, by order of the mint's issuer."""

    @classmethod
    def parse(cls, account: ChainAccount) -> Self:
        """Read what the chain has. Raises: NotATokenAccount."""
        if account.owner != str(TOKEN_PROGRAM_ID):
            raise NotATokenAccount(f"{account.address} is owned by {account.owner}, not by SPL Token")
        data = account.data
        if len(data) != TOKEN_ACCOUNT_BYTES or data[108] not in (1, FROZEN_STATE):
            raise NotATokenAccount(
                f"{account.address} holds {len(data)} bytes that are no initialized token account"
            )
        return cls(
            mint=Pubkey.from_bytes(data[:32]),
            owner=Pubkey.from_bytes(data[32:64]),
            amount=int.from_bytes(data[64:72], "little"),
            is_frozen=data[108] == FROZEN_STATE,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint:
    """A token."""

    address: Pubkey
    decimals: int
    supply: int

    @classmethod
    def parse(cls, account: ChainAccount) -> Self:
        """Read what the chain has. Raises: NotATokenAccount."""
        data = account.data
        if account.owner != str(TOKEN_PROGRAM_ID) or len(data) != MINT_BYTES or data[45] != 1:
            raise NotATokenAccount(f"{account.address} is no initialized mint of SPL Token")
        return cls(
            address=Pubkey.from_string(account.address),
            decimals=data[44],
            supply=int.from_bytes(data[36:44], "little"),
        )


def why_unpayable(account: ChainAccount | None, *, owner: Pubkey, mint: Pubkey) -> str | None:
    """Why a payment of `mint` to `owner` into `account` would fail or go astray; None when it would arrive.

    The stable names are those of `Cause`: account_missing, wrong_mint, wrong_owner, account_frozen.
    """
    if account is None:
        return "account_missing"
    try:
        found = TokenAccount.parse(account)
    except NotATokenAccount:
        return "account_missing"
    if found.mint != mint:
        return "wrong_mint"
    # The associated account of a wallet can be handed over to somebody else by its owner.
    if found.owner != owner:
        return "wrong_owner"
    return "account_frozen" if found.is_frozen else None
