"""What we send: payouts of one part, creation of token accounts, reclaimed markers. Built here, signed elsewhere.

Version 1 (SIMD-0385) carries 4,096 bytes and names its limits in a header: 57 payees, the marker and a memo. Version 0
carries 1,232 bytes: 14. All are signed by the treasury alone, which also pays the fee: another signer costs 96 bytes.
Source: SIMD-0385; SPL Token, Associated Token Account and Memo programs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0, MessageV1, TransactionConfig, from_bytes_versioned, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from spl.memo.constants import MEMO_PROGRAM_ID
from spl.token.constants import TOKEN_PROGRAM_ID

from raymart_billing.solana.failures import Item, Layout
from raymart_billing.solana.marker import Marker, create_marker, reclaim_marker
from raymart_billing.solana.token_accounts import CREATED_MAX

Version = Literal[0, 1]
BYTES_MAX: Final = {0: 1_232, 1: 4_096}
"""Of the whole transaction with its signature."""
PAYEES_MAX: Final = {0: 14, 1: 57}
"""Beside a marker and a memo of at most `MEMO_BYTES_MAX`: by size in version 0, by its 64 addresses in version 1."""
RECLAIMS_MAX: Final = {0: 8, 1: 34}
MEMO_BYTES_MAX: Final = 40
BUDGET_INSTRUCTIONS: Final = {0: 2, 1: 0}
"""Before all others: version 0 sets its limits by two instructions, version 1 in its header."""
USDC_DECIMALS: Final = 6
AMOUNT_MAX: Final = 2**63 - 1
COMPUTE_UNITS_MAX: Final = 1_400_000
FEE_LAMPORTS_PER_SIGNATURE: Final = 5_000
MICRO_LAMPORTS: Final = 1_000_000
"""One lamport."""
LOADED_BYTES_MAX: Final = 8 * 1024 * 1024
"""What a transaction of version 1 may load: accounts and the code of programs, a few hundred kilobytes in all.

Its header must say so: what is not set is zero, and a transaction that may load nothing fails and pays its whole fee.
Source: SIMD-0385 ("the minimum allowed value is used"); SIMD-0186 for what counts.
"""
TRANSFER_CHECKED_TAG: Final = 12


class TransactionTooLarge(ValueError):
    """More than the format carries; the caller has to split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payee:
    """`amount_micro_usdc` for a token account."""

    token_account: Pubkey
    amount_micro_usdc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a transaction may use and what it pays to be preferred."""

    compute_units: int
    priority_fee_lamports: int = 0
    """In all. Version 0 names a price per unit instead, which is rounded down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """A transaction but for its signature."""

    message: bytes
    """What is signed."""
    version: Version

    def signed(self, signature: Signature) -> bytes:
        """The bytes to send. Raises: TransactionTooLarge."""
        raw = bytes(VersionedTransaction.populate(from_bytes_versioned(self.message), [signature]))
        return _checked_size(raw, self.version)

    def unsigned(self) -> bytes:
        """The same with an empty signature, to simulate."""
        return self.signed(Signature.default())


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where payments come from: the treasury, its token account, and the token's mint."""

    treasury: Pubkey
    token_account: Pubkey
    mint: Pubkey
    decimals: int = USDC_DECIMALS


def build_payout(
    source: Source,
    payees: Sequence[Payee],
    *,
    marker: Marker,
    marker_rent_lamports: int,
    memo: str,
    blockhash: str,
    limits: Limits,
    version: Version = 1,
) -> Unsigned:
    """One transaction that pays all `payees` or none, and whose second landing fails at its first instruction.

    Raises: TransactionTooLarge for more payees than `PAYEES_MAX`, or more bytes than the format carries.
    """
    if not 1 <= len(payees) <= PAYEES_MAX[version]:
        raise TransactionTooLarge(
            f"{len(payees)} payees in one transaction of version {version}; 1 to {PAYEES_MAX[version]} fit"
        )
    return _assemble(
        source.treasury,
        [
            create_marker(source.treasury, marker, rent_lamports=marker_rent_lamports),
            memo_instruction(source.treasury, memo),
            *_transfers(source, payees),
        ],
        blockhash=blockhash,
        limits=limits,
        version=version,
    )


def build_burn(
    treasury: Pubkey,
    *,
    marker: Marker,
    marker_rent_lamports: int,
    memo: str,
    blockhash: str,
    limits: Limits,
    version: Version = 1,
) -> Unsigned:
    """A marker that pays nobody: once it is final, no attempt of its part can land any more."""
    return _assemble(
        treasury,
        [
            create_marker(treasury, marker, rent_lamports=marker_rent_lamports),
            memo_instruction(treasury, memo),
        ],
        blockhash=blockhash,
        limits=limits,
        version=version,
    )


def payout_layout(payees: int, *, version: Version) -> Layout:
    """Where a payout, or with no payees a burn, has what."""
    first = BUDGET_INSTRUCTIONS[version]
    return Layout(marker=first, first_item=first + 2, items=payees, item=Item.PAYMENT)


def build_token_accounts(
    treasury: Pubkey,
    owners: Sequence[Pubkey],
    *,
    mint: Pubkey,
    blockhash: str,
    limits: Limits,
    version: Version = 1,
) -> Unsigned:
    """Create the token accounts of `owners` at the treasury's expense; those that exist by then are left alone.

    Raises: TransactionTooLarge for more than `CREATED_MAX`.
    """
    if not 1 <= len(owners) <= CREATED_MAX:
        raise TransactionTooLarge(f"{len(owners)} token accounts in one transaction; 1 to {CREATED_MAX} fit")
    # Its parser of structures, 3 MB, is for processes that make such transactions.
    from spl.token.instructions import create_idempotent_associated_token_account  # noqa: PLC0415

    created = [create_idempotent_associated_token_account(treasury, owner, mint) for owner in owners]
    return _assemble(treasury, created, blockhash=blockhash, limits=limits, version=version)


def build_reclaim(
    treasury: Pubkey,
    markers: Sequence[tuple[Marker, int]],
    *,
    blockhash: str,
    limits: Limits,
    version: Version = 1,
) -> Unsigned:
    """Send the lamports of each marker, as they stand on the chain, back to the treasury.

    Only for parts that are finalized and older than any copy of the database that might be restored. Raises:
    TransactionTooLarge for more than `RECLAIMS_MAX`.
    """
    if not 1 <= len(markers) <= RECLAIMS_MAX[version]:
        raise TransactionTooLarge(
            f"{len(markers)} markers in one transaction of version {version}; 1 to {RECLAIMS_MAX[version]} fit"
        )
    reclaimed = [reclaim_marker(treasury, marker, lamports=lamports) for marker, lamports in markers]
    return _assemble(treasury, reclaimed, blockhash=blockhash, limits=limits, version=version)


def items_layout(items: int, item: Item, *, version: Version) -> Layout:
    """Where a creation of token accounts or a reclaim has its items."""
    return Layout(first_item=BUDGET_INSTRUCTIONS[version], items=items, item=item)


def memo_instruction(signer: Pubkey, memo: str) -> Instruction:
    """A line of text that explorers show beside the transaction."""
    text = memo.encode()
    if len(text) > MEMO_BYTES_MAX:
        raise TransactionTooLarge(
            f"a memo of {len(text)} bytes; at most {MEMO_BYTES_MAX} leave room for the payees"
        )
    return Instruction(MEMO_PROGRAM_ID, text, [AccountMeta(signer, is_signer=True, is_writable=False)])


def _transfers(source: Source, payees: Sequence[Payee]) -> list[Instruction]:
    # Built by hand: `spl.token` checks its parameters anew with pydantic for each, at five times the cost.
    origin = AccountMeta(source.token_account, is_signer=False, is_writable=True)
    mint = AccountMeta(source.mint, is_signer=False, is_writable=False)
    authority = AccountMeta(source.treasury, is_signer=True, is_writable=False)
    transfers = []
    for payee in payees:
        assert 0 < payee.amount_micro_usdc <= AMOUNT_MAX, f"{payee.amount_micro_usdc} micro-USDC"
        amount = payee.amount_micro_usdc.to_bytes(8, "little")
        destination = AccountMeta(payee.token_account, is_signer=False, is_writable=True)
        transfers.append(
            Instruction(
                TOKEN_PROGRAM_ID,
                bytes((TRANSFER_CHECKED_TAG, *amount, source.decimals)),
                [origin, mint, destination, authority],
            )
        )
    return transfers


def _assemble(
    treasury: Pubkey,
    instructions: list[Instruction],
    *,
    blockhash: str,
    limits: Limits,
    version: Version,
) -> Unsigned:
    assert 0 < limits.compute_units <= COMPUTE_UNITS_MAX, f"{limits.compute_units} compute units"
    assert limits.priority_fee_lamports >= 0, f"{limits.priority_fee_lamports} lamports"
    dated = Hash.from_string(blockhash)
    if version == 1:
        config = TransactionConfig(
            compute_unit_limit=limits.compute_units,
            priority_fee=limits.priority_fee_lamports,
            loaded_accounts_data_size_limit=LOADED_BYTES_MAX,
        )
        message = to_bytes_versioned(MessageV1.try_compile(treasury, instructions, dated, config))
    else:
        price = limits.priority_fee_lamports * MICRO_LAMPORTS // limits.compute_units
        budget = [set_compute_unit_limit(limits.compute_units), set_compute_unit_price(price)]
        message = to_bytes_versioned(MessageV0.try_compile(treasury, [*budget, *instructions], [], dated))
        assert len(budget) == BUDGET_INSTRUCTIONS[version]
    built = Unsigned(message=message, version=version)
    built.unsigned()
    return built


def _checked_size(raw: bytes, version: Version) -> bytes:
    if len(raw) > BYTES_MAX[version]:
        raise TransactionTooLarge(
            f"a transaction of {len(raw)} bytes; version {version} carries {BYTES_MAX[version]}, so pay fewer at once"
        )
    return raw
