"""Why a transaction failed, in the words of the JSON interface.

solders' own `to_json` drops the names of the variants (`Custom(1)` becomes `[0, 1]`), so the shapes are built here.
Source: serde's form of `TransactionError` and `InstructionError` in the Solana SDK.
"""

from solders.transaction_status import (
    InstructionErrorBorshIO,
    InstructionErrorCustom,
    TransactionErrorDuplicateInstruction,
    TransactionErrorFieldless,
    TransactionErrorInstructionError,
    TransactionErrorInsufficientFundsForRent,
    TransactionErrorProgramExecutionTemporarilyRestricted,
    TransactionErrorType,
)

ErrorJson = str | dict[str, object]

BLOCKHASH_NOT_FOUND = "BlockhashNotFound"
ACCOUNT_NOT_FOUND = "AccountNotFound"
ALREADY_PROCESSED = "AlreadyProcessed"
INSUFFICIENT_FUNDS_FOR_FEE = "InsufficientFundsForFee"
MAX_LOADED_ACCOUNTS_DATA_SIZE_EXCEEDED = "MaxLoadedAccountsDataSizeExceeded"


def error_as_json(error: TransactionErrorType) -> ErrorJson:
    """`{"InstructionError": [2, {"Custom": 1}]}`, `"AccountNotFound"`, and so on."""
    match error:
        case TransactionErrorInstructionError():
            return {"InstructionError": [error.index, _instruction_error(error.err)]}
        case TransactionErrorDuplicateInstruction():
            return {"DuplicateInstruction": error.index}
        case TransactionErrorInsufficientFundsForRent():
            return {"InsufficientFundsForRent": {"account_index": error.account_index}}
        case TransactionErrorProgramExecutionTemporarilyRestricted():
            return {"ProgramExecutionTemporarilyRestricted": {"account_index": error.account_index}}
        case TransactionErrorFieldless():
            return str(error).rsplit(".", 1)[-1]


def _instruction_error(error: object) -> ErrorJson:
    match error:
        case InstructionErrorCustom():
            return {"Custom": error.code}
        case InstructionErrorBorshIO():
            return "BorshIoError"
        case _:
            return str(error).rsplit(".", 1)[-1]
