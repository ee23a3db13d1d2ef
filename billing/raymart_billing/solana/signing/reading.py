"""Reads a message before it is signed, to the last byte: what is not understood is not signed.

Each instruction becomes one of a few known kinds, or the reading is refused. Nothing here trusts the code that built
the message: sizes, flags and accounts are read from the bytes.
Source: SIMD-0385 (version 1) and Solana's versioned transactions for the format; the programs' own layouts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.instruction import CompiledInstruction
from solders.message import MessageV0, MessageV1, from_bytes_versioned, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import SanitizeError
from spl.memo.constants import MEMO_PROGRAM_ID
from spl.token.constants import ASSOCIATED_TOKEN_PROGRAM_ID, TOKEN_PROGRAM_ID

from raymart_billing.solana.addresses import SYSTEM_PROGRAM_ID
from raymart_billing.solana.errors import SigningRefused, printable
from raymart_billing.solana.transactions import (
    BYTES_MAX,
    COMPUTE_UNITS_MAX,
    MICRO_LAMPORTS,
    TRANSFER_CHECKED_TAG,
)

COMPUTE_BUDGET_PROGRAM_ID: Final = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
CREATE_ACCOUNT_WITH_SEED: Final = 3
TRANSFER_WITH_SEED: Final = 11
CREATE_IDEMPOTENT: Final = b"\x01"
SET_COMPUTE_UNIT_LIMIT: Final = 2
SET_COMPUTE_UNIT_PRICE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """SPL Token's `TransferChecked`."""

    source: Pubkey
    mint: Pubkey
    destination: Pubkey
    authority: Pubkey
    amount: int
    decimals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerCreation:
    """The System program's `CreateAccountWithSeed`."""

    funder: Pubkey
    address: Pubkey
    base: Pubkey
    seed: str
    lamports: int
    space: int
    owner: Pubkey


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerReclaim:
    """The System program's `TransferWithSeed`."""

    address: Pubkey
    base: Pubkey
    seed: str
    owner: Pubkey
    destination: Pubkey
    lamports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccountCreation:
    """The Associated Token Account program's `CreateIdempotent`."""

    payer: Pubkey
    address: Pubkey
    owner: Pubkey
    mint: Pubkey
    system_program: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """A line of text."""

    signers: tuple[Pubkey, ...]
    text: bytes


Step = Transfer | MarkerCreation | MarkerReclaim | TokenAccountCreation | Memo


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMessage:
    """What a message does, in order, at whose expense."""

    version: int
    fee_payer: Pubkey
    signers: int
    priority_fee_lamports: int
    """The most that it can cost above the signature."""
    steps: tuple[Step, ...]


def read_message(message: bytes) -> ReadMessage:
    """What `message` does. Raises: SigningRefused when any part of it is not of the known kinds."""
    parsed = _parse(message)
    keys = parsed.account_keys
    budget = _Budget()
    steps: list[Step] = []
    for index, instruction in enumerate(parsed.instructions):
        program, accounts = _resolve(index, instruction, keys)
        data = bytes(instruction.data)
        if program == COMPUTE_BUDGET_PROGRAM_ID:
            if isinstance(parsed, MessageV1):
                raise _refusal(f"instruction {index} sets a budget that version 1 has in its header")
            budget.read(index, data, accounts)
        else:
            steps.append(_read_step(index, program, accounts, data))
    fee = budget.fee() if isinstance(parsed, MessageV0) else _fee_of_header(parsed)
    return ReadMessage(
        version=0 if isinstance(parsed, MessageV0) else 1,
        fee_payer=keys[0],
        signers=parsed.header.num_required_signatures,
        priority_fee_lamports=fee,
        steps=tuple(steps),
    )


class _Budget:
    """What a version 0 message says to the ComputeBudget program: a limit once, a price once."""

    def __init__(self) -> None:
        self._units: int | None = None
        self._price: int | None = None

    def read(self, index: int, data: bytes, accounts: Sequence[Pubkey]) -> None:
        if accounts:
            raise _refusal(f"instruction {index} hands accounts to the compute budget")
        if len(data) == 5 and data[0] == SET_COMPUTE_UNIT_LIMIT and self._units is None:
            self._units = int.from_bytes(data[1:], "little")
        elif len(data) == 9 and data[0] == SET_COMPUTE_UNIT_PRICE and self._price is None:
            self._price = int.from_bytes(data[1:], "little")
        else:
            raise _refusal(f"instruction {index} sets the compute budget in an unknown way, or twice")

    def fee(self) -> int:
        units = COMPUTE_UNITS_MAX if self._units is None else self._units
        return -(-(self._price or 0) * units // MICRO_LAMPORTS)


def _parse(message: bytes) -> MessageV0 | MessageV1:
    if len(message) > BYTES_MAX[1]:
        raise _refusal(f"it has {len(message)} bytes; no transaction carries more than {BYTES_MAX[1]}")
    try:
        parsed = from_bytes_versioned(message)
        if to_bytes_versioned(parsed) != message:
            raise _refusal("the message has bytes that say nothing")
        if isinstance(parsed, MessageV0 | MessageV1):
            parsed.sanitize()
    except (ValueError, SanitizeError) as error:
        raise SigningRefused(f"no message of a transaction: {printable(str(error))}") from error
    if not isinstance(parsed, MessageV0 | MessageV1):
        raise _refusal("a legacy message; payouts are version 1, or 0 by setting")
    if isinstance(parsed, MessageV0) and parsed.address_table_lookups:
        raise _refusal("it names accounts through a lookup table, whose content can change after signing")
    return parsed


def _fee_of_header(message: MessageV1) -> int:
    config = message.config
    if config.heap_size is not None:
        raise _refusal("its header sets more than limits of compute and of loaded data and a priority fee")
    if not config.loaded_accounts_data_size_limit or not config.compute_unit_limit:
        # What the header does not set is zero (SIMD-0385).
        raise _refusal("its header lets it load or compute nothing: it would fail, and pay its whole fee")
    # Lamports in all (SIMD-0385). Were they micro-lamports a unit, as one library says, ours would cost less than that.
    return config.priority_fee or 0


def _resolve(
    index: int, instruction: CompiledInstruction, keys: Sequence[Pubkey]
) -> tuple[Pubkey, list[Pubkey]]:
    positions = [instruction.program_id_index, *instruction.accounts]
    if any(position >= len(keys) for position in positions):
        raise _refusal(f"instruction {index} names an account that the message does not have")
    return keys[positions[0]], [keys[position] for position in positions[1:]]


def _read_step(index: int, program: Pubkey, accounts: list[Pubkey], data: bytes) -> Step:
    if program == TOKEN_PROGRAM_ID:
        return _read_transfer(index, accounts, data)
    if program == SYSTEM_PROGRAM_ID:
        return _read_system(index, accounts, data)
    if program == ASSOCIATED_TOKEN_PROGRAM_ID:
        return _read_creation(index, accounts, data)
    if program == MEMO_PROGRAM_ID:
        return Memo(signers=tuple(accounts), text=data)
    raise _refusal(f"instruction {index} calls the program {program}, which is not on the list")


def _read_transfer(index: int, accounts: list[Pubkey], data: bytes) -> Transfer:
    # More than four accounts would be the signers of a multisig.
    if len(data) != 10 or data[0] != TRANSFER_CHECKED_TAG or len(accounts) != 4:
        raise _refusal(
            f"instruction {index} asks SPL Token for something else than TransferChecked by one authority"
        )
    source, mint, destination, authority = accounts
    return Transfer(
        source=source,
        mint=mint,
        destination=destination,
        authority=authority,
        amount=int.from_bytes(data[1:9], "little"),
        decimals=data[9],
    )


def _read_system(index: int, accounts: list[Pubkey], data: bytes) -> MarkerCreation | MarkerReclaim:
    fields = _Fields(index, data)
    kind = fields.number(4)
    if kind == CREATE_ACCOUNT_WITH_SEED and len(accounts) == 2:
        creation = MarkerCreation(
            funder=accounts[0],
            address=accounts[1],
            base=fields.key(),
            seed=fields.text(),
            lamports=fields.number(8),
            space=fields.number(8),
            owner=fields.key(),
        )
        fields.end()
        return creation
    if kind == TRANSFER_WITH_SEED and len(accounts) == 3:
        lamports, seed, owner = fields.number(8), fields.text(), fields.key()
        fields.end()
        return MarkerReclaim(
            address=accounts[0],
            base=accounts[1],
            seed=seed,
            owner=owner,
            destination=accounts[2],
            lamports=lamports,
        )
    raise _refusal(f"instruction {index} asks the System program for something else than a marker")


def _read_creation(index: int, accounts: list[Pubkey], data: bytes) -> TokenAccountCreation:
    if data != CREATE_IDEMPOTENT or len(accounts) != 6:
        raise _refusal(f"instruction {index} asks for a token account in another way than CreateIdempotent")
    payer, address, owner, mint, system_program, token_program = accounts
    return TokenAccountCreation(
        payer=payer,
        address=address,
        owner=owner,
        mint=mint,
        system_program=system_program,
        token_program=token_program,
    )


class _Fields:
    """Reads a System instruction's fields one after the other. Source: bincode, little-endian."""

    def __init__(self, index: int, data: bytes) -> None:
        self._index = index
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) != length:
            raise _refusal(f"instruction {self._index} ends in the middle of a field")
        self._at += length
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def key(self) -> Pubkey:
        return Pubkey.from_bytes(self.take(32))

    def text(self) -> str:
        try:
            return self.take(self.number(8)).decode("ascii")
        except UnicodeDecodeError:
            raise _refusal(f"instruction {self._index} has a seed that is no text") from None

    def end(self) -> None:
        if self._at != len(self._data):
            raise _refusal(f"instruction {self._index} has bytes that say nothing")


def _refusal(reason: str) -> SigningRefused:
    return SigningRefused(f"not signed: {reason}", reasons=(reason,))
