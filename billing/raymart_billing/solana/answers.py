"""What the chain tells, read strictly from plain JSON: a shape that is not the method's is no answer.

Source: Solana's RPC methods (solana.com/docs/rpc/http).
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct
from solders.hash import Hash, ParseHashError

from raymart_billing.solana.failures import TransactionFailure, read_failure

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A slot, a height, lamports: what a bigint of ours holds."""
Address = Annotated[str, Meta(pattern=r"\A[1-9A-HJ-NP-Za-km-z]{32,44}\Z")]
SignatureText = Annotated[str, Meta(pattern=r"\A[1-9A-HJ-NP-Za-km-z]{64,88}\Z")]
Value = TypeVar("Value")


class Malformed(ValueError):
    """An answer has another shape than its method's."""


class Confirmation(StrEnum):
    """How sure the chain is of a transaction."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"


class Presence(StrEnum):
    """Whether an account exists, by all endpoints."""

    PRESENT = "present"
    ABSENT = "absent"
    DISPUTED = "disputed"
    """Some have it, some do not: no evidence of either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blockhash:
    """What dates a transaction: it can land until the chain is higher than `last_valid_block_height`."""

    hash: str
    last_valid_block_height: int
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureStatus:
    """Where a transaction is. `error` is None when it did what it says."""

    confirmation: Confirmation
    error: TransactionFailure | None
    slot: int
    is_disputed: bool = False
    """The endpoints differ about it. `confirmation` is then the weakest of theirs, and never finalized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainAccount:
    """An account, as of slot `slot`."""

    address: str
    lamports: int
    owner: str
    """The program that it belongs to."""
    data: bytes
    is_executable: bool
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureInfo:
    """A transaction that names an address, newest first in a list of them."""

    signature: str
    slot: int
    error: TransactionFailure | None
    memo: str | None
    """As the node shows it, with each memo's length before it: `[26] ...`."""
    block_time: int | None
    """Seconds since 1970, an estimate of the validators'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBalance:
    """What a token account held before and after a transaction, in base units. A missing side is 0."""

    account: str
    mint: str
    owner: str | None
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTransaction:
    """A finalized transaction."""

    signature: str
    slot: int
    block_time: int | None
    error: TransactionFailure | None
    fee_lamports: int
    accounts: tuple[str, ...]
    """All that it names, also through lookup tables, in its order."""
    signers: tuple[str, ...]
    """The first pays the fee."""
    lamports_before: tuple[int, ...]
    """Of each of `accounts`."""
    lamports_after: tuple[int, ...]
    token_balances: tuple[TokenBalance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What a transaction would do now."""

    error: TransactionFailure | None
    units: int
    """Compute units; 0 when the node did not say."""
    logs: tuple[str, ...]


class _Context(Struct):
    slot: Count


class _Valued(Struct, Generic[Value]):
    context: _Context
    value: Value


class _Blockhash(Struct, rename="camel"):
    blockhash: Address
    last_valid_block_height: Count


class _Status(Struct, rename="camel"):
    slot: Count
    err: object
    confirmation_status: Confirmation | None = None


class _Account(Struct):
    lamports: Count
    owner: Address
    data: tuple[str, str]
    executable: bool = False


class _SignatureInfo(Struct, rename="camel"):
    signature: SignatureText
    slot: Count
    err: object
    memo: str | None = None
    block_time: int | None = None


class _Amount(Struct):
    amount: Annotated[str, Meta(pattern=r"^[0-9]{1,20}$")]


class _TokenBalance(Struct, rename="camel"):
    account_index: Count
    mint: Address
    ui_token_amount: _Amount
    owner: Address | None = None


class _LoadedAddresses(Struct):
    writable: list[Address] = []
    readonly: list[Address] = []


class _Meta(Struct, rename="camel"):
    err: object
    fee: Count
    pre_balances: list[Count]
    post_balances: list[Count]
    pre_token_balances: list[_TokenBalance] | None = None
    post_token_balances: list[_TokenBalance] | None = None
    loaded_addresses: _LoadedAddresses | None = None


class _Header(Struct, rename="camel"):
    num_required_signatures: Annotated[int, Meta(ge=1, le=255)]


class _Message(Struct, rename="camel"):
    account_keys: list[Address]
    header: _Header


class _Signed(Struct):
    signatures: list[SignatureText]
    message: _Message


class _Transaction(Struct, rename="camel"):
    slot: Count
    transaction: _Signed
    meta: _Meta
    block_time: int | None = None


class _Simulation(Struct, rename="camel"):
    err: object
    units_consumed: Count | None = None
    logs: list[str] | None = None


class _PriorityFee(Struct, rename="camel"):
    prioritization_fee: Count


def read(answer: object, shape: type[Value]) -> Value:
    """`answer` as a `shape`. Raises: Malformed."""
    try:
        return msgspec.convert(answer, shape)
    except (ValueError, RecursionError) as error:  # also a UnicodeEncodeError, of half a surrogate pair
        raise Malformed(str(error)) from error


def read_count(answer: object) -> int:
    """A height, a slot, lamports."""
    return read(answer, Count)


def read_text(answer: object) -> str:
    """A hash."""
    return read(answer, str)


def read_blockhash(answer: object) -> Blockhash:
    """Of `getLatestBlockhash`."""
    found = read(answer, _Valued[_Blockhash])
    try:
        Hash.from_string(found.value.blockhash)
    except ParseHashError as error:
        raise Malformed("a blockhash that is not 32 bytes") from error
    return Blockhash(
        hash=found.value.blockhash,
        last_valid_block_height=found.value.last_valid_block_height,
        slot=found.context.slot,
    )


def read_statuses(answer: object, *, asked: int) -> list[SignatureStatus | None]:
    """Of `getSignatureStatuses` about `asked` signatures."""
    found = read(answer, _Valued[list[_Status | None]])
    _expect_length(found.value, asked)
    return [None if status is None else _status(status) for status in found.value]


def read_accounts(answer: object, addresses: list[str]) -> list[ChainAccount | None]:
    """Of `getMultipleAccounts` in base64."""
    found = read(answer, _Valued[list[_Account | None]])
    _expect_length(found.value, len(addresses))
    return [
        None if account is None else _account(address, account, found.context.slot)
        for address, account in zip(addresses, found.value, strict=True)
    ]


def read_signatures(answer: object) -> list[SignatureInfo]:
    """Of `getSignaturesForAddress`, newest first."""
    return [
        SignatureInfo(
            signature=info.signature,
            slot=info.slot,
            error=read_failure(info.err),
            memo=None if info.memo is None else _visible(info.memo),
            block_time=info.block_time,
        )
        for info in read(answer, list[_SignatureInfo])
    ]


def read_transaction(answer: object, signature: str) -> ChainTransaction | None:
    """Of `getTransaction` in JSON."""
    return None if answer is None else _transaction(read(answer, _Transaction), signature)


def read_simulation(answer: object) -> Simulation:
    """Of `simulateTransaction`."""
    value = read(answer, _Valued[_Simulation]).value
    return Simulation(
        error=read_failure(value.err), units=value.units_consumed or 0, logs=tuple(value.logs or ())
    )


def read_priority_fees(answer: object) -> list[int]:
    """Of `getRecentPrioritizationFees`: what was paid per compute unit in recent slots, in micro-lamports."""
    return [fee.prioritization_fee for fee in read(answer, list[_PriorityFee])]


def _visible(memo: str) -> str:
    """A stranger's text without what no database or terminal takes."""
    return "".join(character if character.isprintable() else " " for character in memo)


def _expect_length(found: list[Value], asked: int) -> None:
    if len(found) != asked:
        raise Malformed(f"{len(found)} values for {asked} asked for")


def _status(status: _Status) -> SignatureStatus:
    return SignatureStatus(
        # Older nodes leave it out; the weakest claim then keeps us waiting.
        confirmation=status.confirmation_status or Confirmation.PROCESSED,
        error=read_failure(status.err),
        slot=status.slot,
    )


def _account(address: str, account: _Account, slot: int) -> ChainAccount:
    text, encoding = account.data
    if encoding != "base64":
        raise Malformed(f"data in {encoding!r} instead of base64")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("data that is no base64") from error
    return ChainAccount(
        address=address,
        lamports=account.lamports,
        owner=account.owner,
        data=data,
        is_executable=account.executable,
        slot=slot,
    )


def _transaction(found: _Transaction, signature: str) -> ChainTransaction:
    if not found.transaction.signatures or found.transaction.signatures[0] != signature:
        raise Malformed("another transaction than the one asked for")
    meta, message = found.meta, found.transaction.message
    loaded = meta.loaded_addresses or _LoadedAddresses()
    accounts = (*message.account_keys, *loaded.writable, *loaded.readonly)
    _expect_length(meta.pre_balances, len(accounts))
    _expect_length(meta.post_balances, len(accounts))
    if message.header.num_required_signatures > len(message.account_keys):
        raise Malformed("more signers than accounts")
    return ChainTransaction(
        signature=signature,
        slot=found.slot,
        block_time=found.block_time,
        error=read_failure(meta.err),
        fee_lamports=meta.fee,
        accounts=accounts,
        signers=tuple(message.account_keys[: message.header.num_required_signatures]),
        lamports_before=tuple(meta.pre_balances),
        lamports_after=tuple(meta.post_balances),
        token_balances=_token_balances(meta, accounts),
    )


def _token_balances(meta: _Meta, accounts: tuple[str, ...]) -> tuple[TokenBalance, ...]:
    before = _by_account(meta.pre_token_balances or [], len(accounts))
    after = _by_account(meta.post_token_balances or [], len(accounts))
    balances = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        index, mint = key
        balances.append(
            TokenBalance(
                account=accounts[index],
                mint=mint,
                owner=_owner(new) or _owner(old),
                before=_amount(old),
                after=_amount(new),
            )
        )
    return tuple(balances)


def _by_account(balances: list[_TokenBalance], accounts: int) -> Mapping[tuple[int, str], _TokenBalance]:
    """By account and mint: an account may be closed and made again for another mint within one transaction."""
    found = {(balance.account_index, balance.mint): balance for balance in balances}
    if len(found) < len(balances) or any(index >= accounts for index, _ in found):
        raise Malformed("token balances of accounts that the transaction does not name once")
    return found


def _owner(balance: _TokenBalance | None) -> str | None:
    return None if balance is None else balance.owner


def _amount(balance: _TokenBalance | None) -> int:
    return 0 if balance is None else int(balance.ui_token_amount.amount)
