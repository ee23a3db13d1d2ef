"""Accounts and transactions in the shapes of the JSON interface."""

import base64
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from solders.account import Account
from solders.message import MessageV0, MessageV1
from solders.pubkey import Pubkey
from spl.token.constants import TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

from raymart_billing.solana.devchain import base58
from raymart_billing.solana.devchain.errors import INVALID_PARAMS, RpcError
from raymart_billing.solana.devchain.history import Landed
from raymart_billing.solana.devchain.machine import AnyMessage, Execution
from raymart_billing.solana.devchain.params import Config
from raymart_billing.solana.devchain.transaction_errors import ErrorJson

TOKEN_PROGRAMS: Final = (TOKEN_PROGRAM_ID, TOKEN_2022_PROGRAM_ID)
_TOKEN_ACCOUNT_BYTES_MIN = 165
_MINT_BYTES_MIN = 82
_BASE58_BYTES_MAX = 128
"""Accounts that are longer are refused in base58, which is slow. Source: Agave's account-decoder."""

Shape = dict[str, object]


def account_shape(account: Account | None, config: Config) -> Shape | None:
    """One account as `getAccountInfo` shows it. Raises: RpcError, for an encoding that cannot be had."""
    if account is None:
        return None
    content = bytes(account.data)
    piece = config.section("dataSlice")
    if piece is not None:
        offset, length = piece.number("offset") or 0, piece.number("length") or 0
        content = content[offset : offset + length]
    return {
        "lamports": account.lamports,
        "owner": str(account.owner),
        "executable": account.executable,
        # Of no meaning since rent is no longer collected; nodes show the greatest number.
        "rentEpoch": 2**64 - 1,
        "space": len(account.data),
        "data": _data_shape(content, config.text("encoding")),
    }


def _data_shape(content: bytes, encoding: str | None) -> object:
    if encoding in ("base64", "jsonParsed"):
        # What a node cannot parse it shows in base64, also where `jsonParsed` was asked for.
        return [base64.b64encode(content).decode(), "base64"]
    if encoding not in (None, "binary", "base58"):
        raise RpcError(
            INVALID_PARAMS, f"unsupported encoding: {encoding}. Supported encodings: base58, base64"
        )
    if len(content) > _BASE58_BYTES_MAX:
        reason = f"Encoded binary (base 58) data should be less than {_BASE58_BYTES_MAX} bytes"
        raise RpcError(INVALID_PARAMS, f"{reason}, please use Base64 encoding.")
    text = base58.encode(content)
    return [text, "base58"] if encoding == "base58" else text


def is_token_account(account: Account | None) -> bool:
    """Whether a token program keeps a holder's balance in it."""
    return (
        account is not None
        and account.owner in TOKEN_PROGRAMS
        and len(account.data) >= _TOKEN_ACCOUNT_BYTES_MIN
    )


def token_mint(account: Account) -> Pubkey:
    """The mint of a token account."""
    return Pubkey.from_bytes(bytes(account.data)[:32])


def token_owner(account: Account) -> Pubkey:
    """The wallet of a token account."""
    return Pubkey.from_bytes(bytes(account.data)[32:64])


def token_amount(account: Account) -> int:
    """The balance of a token account, in its mint's base units."""
    return int.from_bytes(bytes(account.data)[64:72], "little")


def mint_decimals(mint: Account | None) -> int:
    """The decimals of a mint; 0 for what is none."""
    return bytes(mint.data)[44] if mint is not None and len(mint.data) >= _MINT_BYTES_MIN else 0


def amount_shape(amount: int, *, decimals: int) -> Shape:
    """A token amount in base units and as people write it."""
    exact = Decimal(amount).scaleb(-decimals)
    return {
        "amount": str(amount),
        "decimals": decimals,
        "uiAmount": float(exact),
        "uiAmountString": f"{exact.normalize():f}",
    }


def message_version(message: AnyMessage) -> int | str:
    """`"legacy"`, 0 or 1."""
    if isinstance(message, MessageV1):
        return 1
    return 0 if isinstance(message, MessageV0) else "legacy"


def transaction_shape(landed: Landed, encoding: str | None) -> object:
    """The transaction itself, in base64, base58 or as JSON. Raises: RpcError."""
    if encoding == "base64":
        return [base64.b64encode(landed.raw).decode(), "base64"]
    if encoding == "base58":
        return [base58.encode(landed.raw), "base58"]
    if encoding not in (None, "json"):
        supported = "json, base58, base64"
        raise RpcError(INVALID_PARAMS, f"unsupported encoding: {encoding}. Supported encodings: {supported}")
    return {
        "signatures": [str(signature) for signature in landed.transaction.signatures],
        "message": _message_shape(landed.transaction.message),
    }


def _message_shape(message: AnyMessage) -> Shape:
    header = message.header
    shape: Shape = {
        "accountKeys": [str(key) for key in message.account_keys],
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            {
                "programIdIndex": instruction.program_id_index,
                "accounts": list(bytes(instruction.accounts)),
                "data": base58.encode(bytes(instruction.data)),
                "stackHeight": 1,
            }
            for instruction in message.instructions
        ],
    }
    if isinstance(message, MessageV0):
        shape["addressTableLookups"] = [
            {
                "accountKey": str(lookup.account_key),
                "writableIndexes": list(bytes(lookup.writable_indexes)),
                "readonlyIndexes": list(bytes(lookup.readonly_indexes)),
            }
            for lookup in message.address_table_lookups
        ]
    if isinstance(message, MessageV1):
        config = message.config
        shape["transactionConfig"] = {
            "priorityFee": config.priority_fee,
            "computeUnitLimit": config.compute_unit_limit,
            "loadedAccountsDataSizeLimit": config.loaded_accounts_data_size_limit,
            "heapSize": config.heap_size,
        }
    return shape


def status_shape(error: ErrorJson | None) -> Shape:
    """The outcome in its old form, which nodes still send beside `err`."""
    return {"Ok": None} if error is None else {"Err": error}


def meta_shape(execution: Execution, *, decimals_of: dict[Pubkey, int]) -> Shape:
    """What the transaction did. `decimals_of` knows each mint of its token accounts."""
    return {
        "err": execution.error,
        "status": status_shape(execution.error),
        "fee": execution.fee_lamports,
        "preBalances": [account.lamports if account else 0 for account in execution.before],
        "postBalances": [account.lamports if account else 0 for account in execution.after],
        "preTokenBalances": _token_balances(execution.before, decimals_of),
        "postTokenBalances": _token_balances(execution.after, decimals_of),
        "innerInstructions": _inner_shapes(execution),
        "logMessages": list(execution.logs),
        "rewards": [],
        "computeUnitsConsumed": execution.units,
        "loadedAddresses": {
            "writable": [str(key) for key in execution.loaded_writable],
            "readonly": [str(key) for key in execution.loaded_readonly],
        },
    }


def _token_balances(accounts: Sequence[Account | None], decimals_of: dict[Pubkey, int]) -> Sequence[Shape]:
    balances: list[Shape] = []
    for index, account in enumerate(accounts):
        if account is not None and is_token_account(account):
            mint = token_mint(account)
            balances.append(
                {
                    "accountIndex": index,
                    "mint": str(mint),
                    "owner": str(token_owner(account)),
                    "programId": str(account.owner),
                    "uiTokenAmount": amount_shape(token_amount(account), decimals=decimals_of[mint]),
                }
            )
    return balances


def _inner_shapes(execution: Execution) -> Sequence[Shape]:
    """The instructions that programs called, below the index of the one that called them."""
    return [
        {
            "index": index,
            "instructions": [
                {
                    "programIdIndex": called.instruction().program_id_index,
                    "accounts": list(bytes(called.instruction().accounts)),
                    "data": base58.encode(bytes(called.instruction().data)),
                    "stackHeight": called.stack_height(),
                }
                for called in calls
            ],
        }
        for index, calls in enumerate(execution.inner)
        if calls
    ]
