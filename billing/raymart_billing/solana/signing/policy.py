"""What the treasury's key may be used for, whoever asks: checked on the bytes before each signature.

A bug, a wrong row or somebody who gets into the worker's queue can make a message, but not have it signed unless it
does one of four things: pay USDC behind a marker, make a marker that pays nobody, create token accounts, or reclaim
markers that the books give free. They do not mix: a marker that is made and emptied in one transaction guards nothing.
"""

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from solders.pubkey import Pubkey
from solders.signature import Signature
from spl.token.constants import TOKEN_PROGRAM_ID

from raymart_billing.solana.addresses import SYSTEM_PROGRAM_ID, token_account
from raymart_billing.solana.errors import SignerMisconfigured, SigningRefused
from raymart_billing.solana.marker import marker_address
from raymart_billing.solana.signing.reading import (
    MarkerCreation,
    MarkerReclaim,
    Memo,
    ReadMessage,
    Step,
    TokenAccountCreation,
    Transfer,
    read_message,
)
from raymart_billing.solana.signing.signer import Signer
from raymart_billing.solana.transactions import MEMO_BYTES_MAX

DAY = timedelta(days=1)
UNRECORDED_S_MAX = 600.0
"""By then an attempt that was signed is in the books, or is never sent."""
SEED_CHARACTERS_MAX = 32
MARKER_LAMPORTS_MAX = 2_000_000
"""Twice the rent of an account without data: a marker is no way to move SOL."""
REASONS_MAX = 10


class Books(Protocol):
    """What the database knows of parts, by the addresses of their markers in base58."""

    async def signed_micro_usdc(self, *, within: timedelta, except_markers: Sequence[str]) -> int:
        """Sum of the parts of which an attempt was recorded lately, each once, without those of `except_markers`."""
        ...

    async def reclaimable(self, markers: Sequence[str]) -> Set[str]:
        """Those of `markers` whose part is finalized and older than any copy of the database that may come back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of one treasury. Amounts in micro-USDC and lamports."""

    treasury: Pubkey
    token_account: Pubkey
    """The treasury's, of `mint`."""
    mint: Pubkey
    decimals: int
    transaction_micro_usdc_max: int
    day_micro_usdc_max: int
    priority_fee_lamports_max: int

    def broken(self, found: ReadMessage) -> list[str]:
        """Each rule that a message breaks by itself, whatever was signed before."""
        reasons = []
        if found.fee_payer != self.treasury or found.signers != 1:
            reasons.append(
                f"{found.fee_payer} pays its fee, with {found.signers} signers; the treasury alone signs"
            )
        if found.priority_fee_lamports > self.priority_fee_lamports_max:
            reasons.append(
                f"its priority fee of {found.priority_fee_lamports} lamports exceeds {self.priority_fee_lamports_max}"
            )
        for step in found.steps:
            reason = self._broken_step(step)
            if reason is not None:
                reasons.append(reason)
        return reasons + self._broken_whole([step for step in found.steps if not isinstance(step, Memo)])

    def _broken_step(self, step: Step) -> str | None:
        match step:
            case Transfer():
                return self._broken_transfer(step)
            case MarkerCreation():
                return self._broken_creation(step)
            case MarkerReclaim():
                return self._broken_reclaim(step)
            case TokenAccountCreation():
                return self._broken_token_account(step)
            case Memo():
                return self._broken_memo(step)

    def _broken_transfer(self, step: Transfer) -> str | None:
        if step.mint != self.mint or step.decimals != self.decimals:
            return f"it moves token {step.mint}, which is not on the list"
        if step.authority != self.treasury or step.source != self.token_account:
            return (
                f"it moves what lies at {step.source} by right of {step.authority}, not the treasury's USDC"
            )
        if step.amount == 0 or step.destination == step.source:
            return f"it moves {step.amount} to {step.destination}, which pays nobody"
        return None

    def _broken_creation(self, step: MarkerCreation) -> str | None:
        if step.funder != self.treasury or step.base != self.treasury or step.owner != SYSTEM_PROGRAM_ID:
            return f"the marker {step.address} is not the treasury's own"
        if step.space != 0 or step.lamports > MARKER_LAMPORTS_MAX:
            return (
                f"the marker takes {step.lamports} lamports and {step.space} bytes; it holds the rent of none"
            )
        return self._broken_seed(step.seed, step.address)

    def _broken_reclaim(self, step: MarkerReclaim) -> str | None:
        if step.base != self.treasury or step.destination != self.treasury or step.owner != SYSTEM_PROGRAM_ID:
            return f"what is reclaimed of {step.address} goes to {step.destination}, not to the treasury"
        return self._broken_seed(step.seed, step.address)

    def _broken_seed(self, seed: str, address: Pubkey) -> str | None:
        if not seed or len(seed) > SEED_CHARACTERS_MAX or marker_address(self.treasury, seed) != address:
            return f"{address} is not the address of its seed"
        return None

    def _broken_token_account(self, step: TokenAccountCreation) -> str | None:
        if step.mint != self.mint or step.token_program != TOKEN_PROGRAM_ID:
            return f"it creates an account for token {step.mint}, which is not on the list"
        if step.payer != self.treasury or step.system_program != SYSTEM_PROGRAM_ID:
            return f"the token account {step.address} is paid for by {step.payer}"
        if token_account(step.owner, step.mint) != step.address:
            return f"{step.address} is not the token account of {step.owner}"
        return None

    def _broken_memo(self, step: Memo) -> str | None:
        if len(step.text) > MEMO_BYTES_MAX or any(signer != self.treasury for signer in step.signers):
            return f"its memo has {len(step.text)} bytes or other signers than the treasury"
        return None

    def _broken_whole(self, steps: list[Step]) -> list[str]:
        """What the steps, without memos, are together."""
        kinds = {type(step) for step in steps}
        if kinds in ({TokenAccountCreation}, {MarkerReclaim}):
            return []
        if not steps:
            return ["it does nothing"]
        first, *others = steps
        if not isinstance(first, MarkerCreation) or not all(isinstance(step, Transfer) for step in others):
            return ["it is no payout behind one marker, no creation of token accounts and no reclaim"]
        total = total_of(steps)
        if total > self.transaction_micro_usdc_max:
            return [
                f"it moves {total} micro-USDC; one transaction may move {self.transaction_micro_usdc_max}"
            ]
        return []


class PolicySigner:
    """A signer that looks at each message first, and at each signature after. The only way to the treasury's key."""

    def __init__(
        self,
        signer: Signer,
        policy: Policy,
        books: Books,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if signer.address != policy.treasury:
            raise SignerMisconfigured(
                f"the key signs for {signer.address} and the treasury is {policy.treasury}; correct"
                " RAYMART_TREASURY_ADDRESS or the key"
            )
        self._signer = signer
        self._policy = policy
        self._books = books
        self._monotonic = monotonic
        self._lately: dict[str, tuple[int, float]] = {}
        """What was let pass and may not be in the books yet: micro-USDC by marker, and when by the monotonic clock."""

    @property
    def address(self) -> Pubkey:
        """The treasury."""
        return self._policy.treasury

    async def sign(self, message: bytes) -> Signature:
        """A valid signature of `message`, if the policy lets it pass. Raises: SigningRefused, Unavailable."""
        await self._check(message)
        signature = await self._signer.sign(message)
        if not signature.verify(self._policy.treasury, message):
            raise SigningRefused(
                "the signer answered with a signature that is not the treasury's; nothing is sent"
            )
        return signature

    async def aclose(self) -> None:
        """Close the signer's connections."""
        await self._signer.aclose()

    async def _check(self, message: bytes) -> None:
        found = read_message(message)
        reasons = self._policy.broken(found) or await self._broken_by_books(found.steps)
        if reasons:
            raise SigningRefused(f"not signed: {'; '.join(reasons[:REASONS_MAX])}", reasons=reasons)

    async def _broken_by_books(self, steps: Sequence[Step]) -> list[str]:
        reclaims = [str(step.address) for step in steps if isinstance(step, MarkerReclaim)]
        if reclaims:
            held = set(reclaims) - await self._books.reclaimable(reclaims)
            return [f"marker {address} is not free to be reclaimed" for address in sorted(held)]
        total = total_of(steps)
        markers = [str(step.address) for step in steps if isinstance(step, MarkerCreation)]
        return await self._broken_day(total, markers[0]) if total else []

    async def _broken_day(self, total: int, marker: str) -> list[str]:
        now, limit = self._monotonic(), self._policy.day_micro_usdc_max
        self._lately = {
            key: entry for key, entry in self._lately.items() if entry[1] > now - UNRECORDED_S_MAX
        }
        known = dict(self._lately)
        recorded = await self._books.signed_micro_usdc(within=DAY, except_markers=[marker, *known])
        # Two that ask at once both see the books without the other; whoever is answered later counts the former here.
        # What the books had meanwhile as well is counted twice: too much at worst, for a moment.
        lately = known | self._lately
        # Another attempt of the same part moves nothing more: only one of them can land.
        before = recorded + sum(amount for key, (amount, _) in lately.items() if key != marker)
        if before + total > limit:
            return [
                f"it moves {total} micro-USDC after {before} in the last 24 hours; {limit} may leave in a day"
            ]
        self._lately[marker] = (total, now)
        return []


def total_of(steps: Sequence[Step]) -> int:
    """What they move, in micro-USDC."""
    return sum(step.amount for step in steps if isinstance(step, Transfer))
