"""Methods that read what has landed: statuses, signatures of an address, transactions."""

from collections.abc import Iterator
from itertools import islice, takewhile

from solders.pubkey import Pubkey

from raymart_billing.solana.devchain.chain import Commitment
from raymart_billing.solana.devchain.errors import INVALID_PARAMS, VERSION_UNSUPPORTED, RpcError
from raymart_billing.solana.devchain.history import Landed
from raymart_billing.solana.devchain.params import Config, Params, signature_of
from raymart_billing.solana.devchain.shapes import (
    Shape,
    is_token_account,
    message_version,
    meta_shape,
    mint_decimals,
    status_shape,
    token_mint,
    transaction_shape,
)
from raymart_billing.solana.devchain.slots import BLOCKHASH_BLOCKS, FINALITY_SLOTS
from raymart_billing.solana.devchain.view import NodeView

STATUSES_MAX = 256
SIGNATURES_MAX = 1_000
_STATUS_CACHE_SLOTS = BLOCKHASH_BLOCKS + FINALITY_SLOTS
"""Older statuses are only found where `searchTransactionHistory` asks for them."""


def get_signature_statuses(view: NodeView, params: Params) -> Shape:
    """`getSignatureStatuses`, at most 256."""
    signatures = [signature_of(text) for text in params.texts(0, count_max=STATUSES_MAX)]
    is_searching = params.config(1).is_set("searchTransactionHistory")
    statuses = [_status(view, signature, is_searching=is_searching) for signature in signatures]
    return view.answer(statuses, slot=view.slot("processed"))


def _status(view: NodeView, signature: str, *, is_searching: bool) -> Shape | None:
    landed = view.landed(signature)
    if landed is None or view.faults.is_history_hidden:
        return None
    if view.faults.hide_status > 0:
        view.faults.hide_status -= 1
        return None
    age_slots = view.slot("processed") - landed.slot
    if age_slots > _STATUS_CACHE_SLOTS and not is_searching:
        return None
    commitment = view.commitment_of(landed)
    error = landed.execution.error
    return {
        "slot": landed.slot,
        "confirmations": None if commitment == "finalized" else age_slots,
        "err": error,
        "status": status_shape(error),
        "confirmationStatus": commitment,
    }


def get_signatures_for_address(view: NodeView, params: Params) -> list[Shape]:
    """`getSignaturesForAddress`: newest first, after `before` and until `until`, at most 1,000."""
    address, config = params.address(0), params.config(1)
    commitment = _at_least_confirmed(config)
    view.reached(config)
    limit = config.number("limit")
    if limit is not None and not 1 <= limit <= SIGNATURES_MAX:
        raise RpcError(INVALID_PARAMS, f"Invalid limit; max {SIGNATURES_MAX}")
    if view.faults.is_history_hidden:
        return []
    found = _between(view, address, commitment, before=config.text("before"), until=config.text("until"))
    return [
        {
            "signature": landed.signature,
            "slot": landed.slot,
            "err": landed.execution.error,
            "memo": landed.memo,
            "blockTime": landed.block_time,
            "confirmationStatus": view.commitment_of(landed),
        }
        for landed in islice(found, limit or SIGNATURES_MAX)
    ]


def get_transaction(view: NodeView, params: Params) -> Shape | None:
    """`getTransaction`. Raises: RpcError, for a version that the caller does not say it understands."""
    signature = params.signature(0)
    config = params.config(1)
    commitment = _at_least_confirmed(config)
    landed = view.landed(signature)
    if landed is None or view.faults.is_history_hidden or not view.has_reached(landed, commitment):
        return None
    shape: Shape = {
        "slot": landed.slot,
        "blockTime": landed.block_time,
        "transaction": transaction_shape(landed, config.text("encoding")),
        "meta": meta_shape(landed.execution, decimals_of=_decimals(view, landed)),
    }
    version = message_version(landed.transaction.message)
    understood = config.number("maxSupportedTransactionVersion")
    if isinstance(version, int) and (understood is None or understood < version):
        raise RpcError(
            VERSION_UNSUPPORTED,
            f"Transaction version ({version}) is not supported by the requesting client. Please try the request "
            f'again with the following configuration parameter: "maxSupportedTransactionVersion": {version}',
        )
    if understood is not None:
        shape["version"] = version
    return shape


def _between(
    view: NodeView, address: Pubkey, commitment: Commitment, *, before: str | None, until: str | None
) -> Iterator[Landed]:
    """Those older than `before` and newer than `until`. A `before` that is unknown has nothing older, as on nodes."""
    found = view.landed_at(address, commitment)
    if before is not None:
        mark = view.landed(signature_of(before))
        # Not every `before` names the address: its place in the chain counts.
        found = iter(()) if mark is None else (one for one in found if _is_older(one, mark))
    end = None if until is None else view.landed(signature_of(until))
    return takewhile(lambda one: end is None or _is_older(end, one), found)


def _is_older(one: Landed, other: Landed) -> bool:
    if one.slot != other.slot:
        return one.slot < other.slot
    return one.position < other.position


def _at_least_confirmed(config: Config) -> Commitment:
    commitment = config.commitment()
    if commitment == "processed":
        raise RpcError(INVALID_PARAMS, "Method does not support commitment below `confirmed`")
    return commitment


def _decimals(view: NodeView, landed: Landed) -> dict[Pubkey, int]:
    """Those of the mints of all its token accounts."""
    execution = landed.execution
    accounts = [account for account in (*execution.before, *execution.after) if account is not None]
    mints = {token_mint(account) for account in accounts if is_token_account(account)}
    return {mint: mint_decimals(view.chain.machine.account(mint)) for mint in mints}
