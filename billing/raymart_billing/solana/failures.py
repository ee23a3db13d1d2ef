"""Why a transaction failed on the chain, by name, and whose payment in it was at fault.

Source: Solana's `TransactionError` and `InstructionError` as JSON, SPL Token's `TokenError`, the System program's
`SystemError`. A kind that nobody here knows is a failure like any other: it keeps its text and is `UNKNOWN`.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from raymart_billing.solana.errors import printable

TEXT_CHARACTERS_MAX = 300


class Cause(StrEnum):
    """What a failed transaction means to whoever sent it."""

    MARKER_USED = "marker_used"
    """The part was paid before, or somebody else made the marker's address. Nothing was moved."""
    ACCOUNT_FROZEN = "account_frozen"
    """The payee's token account is frozen by the mint's issuer, or the treasury's: then every payee's fails."""
    TREASURY_SHORT_OF_USDC = "treasury_short_of_usdc"
    TREASURY_SHORT_OF_SOL = "treasury_short_of_sol"
    """For the fee or for the rent of what is created."""
    WRONG_MINT = "wrong_mint"
    """The payee's token account holds another token."""
    ACCOUNT_MISSING = "account_missing"
    """The payee's token account does not exist, was closed, or is no token account."""
    WRONG_OWNER = "wrong_owner"
    BLOCKHASH_UNKNOWN = "blockhash_unknown"
    """Expired, or of another fork."""
    ALREADY_PROCESSED = "already_processed"
    """These very bytes have landed."""
    OUT_OF_COMPUTE = "out_of_compute"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionFailure:
    """A transaction's error as the chain tells it."""

    name: str
    """`InstructionError`, `BlockhashNotFound`, ..."""
    instruction: int | None
    """Index of the instruction at fault, where one was."""
    instruction_error: str | None
    """`Custom`, `InvalidAccountData`, ...; None unless `instruction` is set."""
    custom: int | None
    """The program's own error number, where it gave one."""
    text: str
    """The whole as JSON, cut."""


class Item(StrEnum):
    """What a transaction does several times."""

    PAYMENT = "payment"
    TOKEN_ACCOUNT = "token_account"
    """Creates one for a wallet."""
    RECLAIM = "reclaim"
    """Sends a marker's lamports back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a transaction has what, by index of its instructions."""

    marker: int | None = None
    """The instruction that creates the marker."""
    first_item: int = 0
    """The items follow each other in the order they were given."""
    items: int = 0
    item: Item = Item.PAYMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A failure's cause, and the index of the item (of the payee) that failed."""

    cause: Cause
    item: int | None


TRANSACTION_CAUSES = {
    "AccountNotFound": Cause.TREASURY_SHORT_OF_SOL,  # the fee payer has no account
    "InsufficientFundsForFee": Cause.TREASURY_SHORT_OF_SOL,
    "InsufficientFundsForRent": Cause.TREASURY_SHORT_OF_SOL,
    "BlockhashNotFound": Cause.BLOCKHASH_UNKNOWN,
    "AlreadyProcessed": Cause.ALREADY_PROCESSED,
}
INSTRUCTION_CAUSES = {
    "ComputationalBudgetExceeded": Cause.OUT_OF_COMPUTE,
    "ProgramFailedToComplete": Cause.OUT_OF_COMPUTE,
}
NO_TOKEN_ACCOUNT = {
    "InvalidAccountData": Cause.ACCOUNT_MISSING,
    "UninitializedAccount": Cause.ACCOUNT_MISSING,
    "IncorrectProgramId": Cause.ACCOUNT_MISSING,
    "InvalidAccountOwner": Cause.ACCOUNT_MISSING,
}
ITEM_CAUSES = {
    Item.PAYMENT: NO_TOKEN_ACCOUNT,
    Item.TOKEN_ACCOUNT: {"IllegalOwner": Cause.WRONG_OWNER},
    Item.RECLAIM: {},
}
ITEM_ERRORS = {
    Item.PAYMENT: {
        1: Cause.TREASURY_SHORT_OF_USDC,  # InsufficientFunds
        3: Cause.WRONG_MINT,  # MintMismatch
        4: Cause.WRONG_OWNER,  # OwnerMismatch
        9: Cause.ACCOUNT_MISSING,  # UninitializedState
        17: Cause.ACCOUNT_FROZEN,
    },
    Item.TOKEN_ACCOUNT: {1: Cause.TREASURY_SHORT_OF_SOL},  # the System program's ResultWithNegativeLamports
    Item.RECLAIM: {
        1: Cause.ACCOUNT_MISSING
    },  # the same of the marker: it holds less, or was reclaimed before
}
MARKER_ERRORS = {
    0: Cause.MARKER_USED,  # AccountAlreadyInUse
    1: Cause.TREASURY_SHORT_OF_SOL,  # ResultWithNegativeLamports
}


def read_failure(error: object) -> TransactionFailure | None:
    """The failure in an `err` of any shape; None for null, which says that the transaction succeeded."""
    if error is None:
        return None
    text = _text(error)
    match error:
        case str(name):
            return TransactionFailure(
                name=printable(name), instruction=None, instruction_error=None, custom=None, text=text
            )
        case {"InstructionError": [int(index), detail], **rest} if (
            type(index) is int and index >= 0 and not rest
        ):
            name, custom = _instruction_error(detail)
            return TransactionFailure(
                name="InstructionError",
                instruction=index,
                instruction_error=name,
                custom=custom,
                text=text,
            )
        case dict() if len(error) == 1:
            name = printable(str(next(iter(error))))
        case _:
            name = "Unreadable"
    return TransactionFailure(name=name, instruction=None, instruction_error=None, custom=None, text=text)


def explain(failure: TransactionFailure, layout: Layout) -> Explanation:
    """The cause of `failure` in a transaction of `layout`, with the index of the item at fault."""
    index = failure.instruction
    if index is None:
        return Explanation(cause=TRANSACTION_CAUSES.get(failure.name, Cause.UNKNOWN), item=None)
    general = INSTRUCTION_CAUSES.get(failure.instruction_error or "")
    if general is not None:
        # Compute runs out for the whole transaction; the instruction that it met is not at fault.
        return Explanation(cause=general, item=None)
    if index == layout.marker:
        return Explanation(cause=MARKER_ERRORS.get(_custom(failure), Cause.UNKNOWN), item=None)
    item = index - layout.first_item
    if not 0 <= item < layout.items:
        return Explanation(cause=Cause.UNKNOWN, item=None)
    cause = ITEM_CAUSES[layout.item].get(failure.instruction_error or "")
    if cause is None:
        cause = ITEM_ERRORS[layout.item].get(_custom(failure), Cause.UNKNOWN)
    return Explanation(cause=cause, item=item)


def _instruction_error(detail: object) -> tuple[str, int | None]:
    match detail:
        case str(name):
            return printable(name), None
        case {"Custom": int(number), **rest} if type(number) is int and not rest:
            return "Custom", number
        case dict() if len(detail) == 1:
            return printable(str(next(iter(detail)))), None
        case _:
            return "Unreadable", None


def _custom(failure: TransactionFailure) -> int:
    return -1 if failure.custom is None else failure.custom


def _text(error: object) -> str:
    try:
        text = msgspec.json.encode(error).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        text = repr(type(error))
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:TEXT_CHARACTERS_MAX]}..."
