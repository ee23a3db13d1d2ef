"""What one transaction did to the treasury's account, read from balances before and after it. Pure.

Instructions are not looked at: whatever program moved the tokens, the account holds more or less than before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from raymart_billing.solana.answers import ChainTransaction
from raymart_billing.usdc_deposits.requests import MEMO_PREFIX

MEMO_CHARACTERS_MAX = 500
_LENGTH = re.compile(r"(?:^|; )\[[0-9]{1,4}\] ")
_REFERENCE = re.compile(re.escape(MEMO_PREFIX) + r"([1-9A-HJ-NP-Za-km-z]{32,44})(?![1-9A-HJ-NP-Za-km-z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class PayingAccount:
    """A token account of the mint that holds less than before."""

    wallet: str | None
    """Its owner, as the node says."""
    account: str
    amount: int
    """Micro-USDC that left it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A transaction that names an account of the treasury."""

    signature: str
    account: str
    mint: str
    slot: int
    block_time: datetime | None
    delta_micro_usdc: int
    """By how much the account's balance changed; below 0 for what we paid."""
    failed: bool
    sources: tuple[PayingAccount, ...]
    """The largest first. None for tokens that were just made."""
    memo: str | None
    keys: tuple[str, ...]
    """All accounts that it names, among them a request's reference."""

    @property
    def wallets(self) -> frozenset[str]:
        """Those that paid."""
        return frozenset(source.wallet for source in self.sources if source.wallet is not None)

    @property
    def memo_references(self) -> tuple[str, ...]:
        """Requests that its memo speaks of."""
        return tuple(_REFERENCE.findall(self.memo or ""))


def arrival_of(transaction: ChainTransaction, *, account: str, mint: str, memo: str | None) -> Arrival:
    """What `transaction` did to `account`, by its balances of `mint`. `memo` as `getSignaturesForAddress` shows it."""
    failed = transaction.error is not None
    ours = [
        balance
        for balance in transaction.token_balances
        if balance.account == account and balance.mint == mint
    ]
    assert len(ours) <= 1, f"{transaction.signature} has two balances of {account}"
    return Arrival(
        signature=transaction.signature,
        account=account,
        mint=mint,
        slot=transaction.slot,
        block_time=(
            None if transaction.block_time is None else datetime.fromtimestamp(transaction.block_time, UTC)
        ),
        delta_micro_usdc=0 if failed else sum(balance.after - balance.before for balance in ours),
        failed=failed,
        sources=() if failed else _sources(transaction, account=account, mint=mint),
        memo=_readable(memo),
        keys=transaction.accounts,
    )


def _sources(transaction: ChainTransaction, *, account: str, mint: str) -> tuple[PayingAccount, ...]:
    paying = [
        PayingAccount(wallet=each.owner, account=each.account, amount=each.before - each.after)
        for each in transaction.token_balances
        if each.mint == mint and each.account != account and each.after < each.before
    ]
    return tuple(sorted(paying, key=lambda each: (-each.amount, each.account)))


def _readable(memo: str | None) -> str | None:
    """Without the lengths that nodes write before each memo, and without what cannot be shown or kept."""
    if memo is None:
        return None
    text = _LENGTH.sub(" ", memo).strip()
    shown = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return shown[:MEMO_CHARACTERS_MAX] or None


def wallets_of(sources: Sequence[dict[str, object]]) -> list[str]:
    """The wallets in a deposit's `sources`, the one that paid most first, each once."""
    found = [source["wallet"] for source in sources]
    return list(dict.fromkeys(wallet for wallet in found if isinstance(wallet, str)))
