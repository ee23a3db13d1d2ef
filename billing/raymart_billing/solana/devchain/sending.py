"""Methods that take a transaction: send, simulate, price."""

import base64
from typing import Final

from solders.message import from_bytes_versioned
from solders.transaction import VersionedTransaction

from raymart_billing.solana.devchain.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    NODE_BEHIND,
    PREFLIGHT_FAILED,
    SIGNATURE_FAILED,
    RpcError,
)
from raymart_billing.solana.devchain.history import Landed
from raymart_billing.solana.devchain.machine import fee_of
from raymart_billing.solana.devchain.params import Config, Params, decoded, transaction_of
from raymart_billing.solana.devchain.shapes import Shape, account_shape
from raymart_billing.solana.devchain.transaction_errors import (
    ALREADY_PROCESSED,
    BLOCKHASH_NOT_FOUND,
    ErrorJson,
)
from raymart_billing.solana.devchain.view import NodeView

_BEHIND_SLOTS: Final = 42


def send_transaction(view: NodeView, params: Params) -> str:
    """`sendTransaction`. The signature is an acknowledgement and no promise, as everywhere."""
    config = params.config(1)
    raw = decoded(params.text(0), config.text("encoding"))
    transaction = transaction_of(raw)
    if not config.is_set("skipPreflight"):
        _preflight(view, transaction, config)
    faults, chain = view.faults, view.chain
    signature = str(transaction.signatures[0])
    if faults.error_before_landing > 0:
        faults.error_before_landing -= 1
        raise RpcError(
            NODE_BEHIND, f"Node is behind by {_BEHIND_SLOTS} slots", {"numSlotsBehind": _BEHIND_SLOTS}
        )
    if faults.drop > 0:
        faults.drop -= 1
        return signature
    if faults.false_finalized > 0:
        faults.false_finalized -= 1
        _forge(view, raw, transaction)
        return signature
    chain.send(raw, delay_slots=faults.landing_delay_slots)
    if faults.error_after_landing > 0:
        faults.error_after_landing -= 1
        raise RpcError(INTERNAL_ERROR, "Internal error")
    return signature


def simulate_transaction(view: NodeView, params: Params) -> Shape:
    """`simulateTransaction`."""
    config = params.config(1)
    slot = view.reached(config)
    transaction = transaction_of(decoded(params.text(0), config.text("encoding")))
    if config.is_set("sigVerify"):
        if config.is_set("replaceRecentBlockhash"):
            raise RpcError(INVALID_PARAMS, "sigVerify may not be used with replaceRecentBlockhash")
        _verify(transaction)
    replacement: Shape | None = None
    if config.is_set("replaceRecentBlockhash"):
        replacement = {
            "blockhash": str(view.chain.blockhash(slot)),
            "lastValidBlockHeight": view.last_valid(slot),
        }
    shape = _simulated(view, transaction, is_blockhash_checked=replacement is None, config=config)
    return view.answer({**shape, "replacementBlockhash": replacement}, slot=slot)


def get_fee_for_message(view: NodeView, params: Params) -> Shape:
    """`getFeeForMessage`: lamports, or null when the message's blockhash is not valid any more."""
    slot = view.reached(params.config(1))
    try:
        message = from_bytes_versioned(base64.b64decode(params.text(0), validate=True))
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"invalid message: {error}") from error
    is_valid = view.chain.blockhashes.is_valid(message.recent_blockhash, now_slot=slot)
    return view.answer(fee_of(message) if is_valid else None, slot=slot)


def _preflight(view: NodeView, transaction: VersionedTransaction, config: Config) -> None:
    """What a node does before it takes a transaction. Raises: RpcError, as nodes do."""
    _verify(transaction)
    shape = _simulated(view, transaction, is_blockhash_checked=True, config=Config({}))
    if shape["err"] is not None:
        why = _WORDS.get(str(shape["err"]), str(shape["err"]))
        raise RpcError(PREFLIGHT_FAILED, f"Transaction simulation failed: {why}", shape)


_WORDS: Final = {
    BLOCKHASH_NOT_FOUND: "Blockhash not found",
    ALREADY_PROCESSED: "This transaction has already been processed",
}


def _verify(transaction: VersionedTransaction) -> None:
    if not all(transaction.verify_with_results()):
        raise RpcError(SIGNATURE_FAILED, "Transaction signature verification failure")


def _simulated(
    view: NodeView, transaction: VersionedTransaction, *, is_blockhash_checked: bool, config: Config
) -> Shape:
    """The outcome of a try, against the newest state."""
    now = view.chain.slot("processed")
    if view.chain.history.get(str(transaction.signatures[0])) is not None:
        return _outcome(ALREADY_PROCESSED)
    blockhash = transaction.message.recent_blockhash
    if is_blockhash_checked and not view.chain.blockhashes.is_valid(blockhash, now_slot=now):
        return _outcome(BLOCKHASH_NOT_FOUND)
    execution = view.chain.try_out(transaction)
    asked = config.section("accounts")
    accounts = None
    if asked is not None:
        after = dict(zip(map(str, execution.keys), execution.after, strict=True))
        accounts = [account_shape(after.get(address), asked) for address in asked.texts("addresses")]
    return {
        **_outcome(execution.error),
        "logs": list(execution.logs),
        "accounts": accounts,
        "unitsConsumed": execution.units,
        "fee": execution.fee_lamports,
    }


def _outcome(error: ErrorJson | None) -> Shape:
    return {
        "err": error,
        "logs": [],
        "accounts": None,
        "unitsConsumed": 0,
        "fee": None,
        "returnData": None,
        "innerInstructions": None,
        "loadedAccountsDataSize": 0,
        "replacementBlockhash": None,
    }


def _forge(view: NodeView, raw: bytes, transaction: VersionedTransaction) -> None:
    """The node will show it as finalized, with all that it would have done."""
    now = view.chain.slot("processed")
    signature = str(transaction.signatures[0])
    view.forged[signature] = Landed(
        signature=signature,
        raw=raw,
        transaction=transaction,
        slot=now,
        block_time=view.chain.block_time(now),
        position=len(view.chain.history),
        execution=view.chain.try_out(transaction),
    )
