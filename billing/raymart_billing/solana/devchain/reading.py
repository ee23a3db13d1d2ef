"""Methods that read accounts, slots, blockhashes and fees."""

from solders.hash import Hash

from raymart_billing.solana.devchain.errors import INVALID_PARAMS, NODE_BEHIND, RpcError
from raymart_billing.solana.devchain.params import Params, address_of, invalid
from raymart_billing.solana.devchain.prices import recent_prices
from raymart_billing.solana.devchain.shapes import (
    TOKEN_PROGRAMS,
    Shape,
    account_shape,
    amount_shape,
    is_token_account,
    mint_decimals,
    token_amount,
    token_mint,
    token_owner,
)
from raymart_billing.solana.devchain.slots import FIRST_SLOT, block_height
from raymart_billing.solana.devchain.view import API_VERSION, NodeView

ACCOUNTS_MAX = 100
_BEHIND_SLOTS_MAX = 128
"""A node that is further behind says that it is not healthy."""


def get_health(view: NodeView, params: Params) -> str:
    """`getHealth`."""
    behind = view.faults.slots_behind
    if behind > _BEHIND_SLOTS_MAX:
        raise RpcError(NODE_BEHIND, f"Node is behind by {behind} slots", {"numSlotsBehind": behind})
    return "ok"


def get_version(view: NodeView, params: Params) -> Shape:
    """`getVersion`."""
    return {"solana-core": API_VERSION, "feature-set": 0, "raymart-devchain": "1"}


def get_slot(view: NodeView, params: Params) -> int:
    """`getSlot`."""
    return view.reached(params.config(0))


def get_block_height(view: NodeView, params: Params) -> int:
    """`getBlockHeight`."""
    return block_height(view.reached(params.config(0)))


def get_epoch_info(view: NodeView, params: Params) -> Shape:
    """`getEpochInfo`: one epoch that never ends."""
    slot = view.reached(params.config(0))
    return {
        "absoluteSlot": slot,
        "blockHeight": block_height(slot),
        "epoch": 0,
        "slotIndex": slot,
        "slotsInEpoch": 432_000,
        "transactionCount": len(view.chain.history),
    }


def get_block_time(view: NodeView, params: Params) -> int:
    """`getBlockTime`, seconds of the epoch."""
    slot = params.number(0)
    if slot > view.slot("processed"):
        raise RpcError(-32004, f"Block not available for slot {slot}")
    return view.chain.block_time(slot)


def get_latest_blockhash(view: NodeView, params: Params) -> Shape:
    """`getLatestBlockhash`."""
    slot = view.reached(params.config(0))
    value = {"blockhash": str(view.chain.blockhash(slot)), "lastValidBlockHeight": view.last_valid(slot)}
    return view.answer(value, slot=slot)


def is_blockhash_valid(view: NodeView, params: Params) -> Shape:
    """`isBlockhashValid`."""
    slot = view.reached(params.config(1))
    try:
        blockhash = Hash.from_string(params.text(0))
    except ValueError as error:
        raise invalid(str(error)) from error
    return view.answer(view.chain.blockhashes.is_valid(blockhash, now_slot=slot), slot=slot)


def get_minimum_balance_for_rent_exemption(view: NodeView, params: Params) -> int:
    """`getMinimumBalanceForRentExemption`, lamports."""
    return view.chain.machine.rent_exempt(params.number(0))


def get_balance(view: NodeView, params: Params) -> Shape:
    """`getBalance`, lamports."""
    slot = view.reached(params.config(1))
    account = view.account(params.address(0), slot=slot)
    return view.answer(account.lamports if account else 0, slot=slot)


def get_account_info(view: NodeView, params: Params) -> Shape:
    """`getAccountInfo`."""
    config = params.config(1)
    slot = view.reached(config)
    return view.answer(account_shape(view.account(params.address(0), slot=slot), config), slot=slot)


def get_multiple_accounts(view: NodeView, params: Params) -> Shape:
    """`getMultipleAccounts`, at most 100."""
    config = params.config(1)
    slot = view.reached(config)
    addresses = [address_of(text) for text in params.texts(0, count_max=ACCOUNTS_MAX)]
    shapes = [account_shape(view.account(address, slot=slot), config) for address in addresses]
    return view.answer(shapes, slot=slot)


def get_token_account_balance(view: NodeView, params: Params) -> Shape:
    """`getTokenAccountBalance`."""
    slot = view.reached(params.config(1))
    account = view.account(params.address(0), slot=slot)
    if account is None:
        raise RpcError(INVALID_PARAMS, "Invalid param: could not find account")
    if not is_token_account(account):
        raise RpcError(INVALID_PARAMS, "Invalid param: not a Token account")
    decimals = mint_decimals(view.account(token_mint(account), slot=slot))
    return view.answer(amount_shape(token_amount(account), decimals=decimals), slot=slot)


def get_token_supply(view: NodeView, params: Params) -> Shape:
    """`getTokenSupply`."""
    slot = view.reached(params.config(1))
    mint = view.account(params.address(0), slot=slot)
    if mint is None or mint.owner not in TOKEN_PROGRAMS or is_token_account(mint):
        raise RpcError(INVALID_PARAMS, "Invalid param: could not find mint")
    supply = int.from_bytes(bytes(mint.data)[36:44], "little")
    return view.answer(amount_shape(supply, decimals=mint_decimals(mint)), slot=slot)


def get_token_accounts_by_owner(view: NodeView, params: Params) -> Shape:
    """`getTokenAccountsByOwner`, of one mint or one token program."""
    owner, config = params.address(0), params.config(2)
    mint_text, program_text = params.config(1).text("mint"), params.config(1).text("programId")
    if (mint_text is None) == (program_text is None):
        raise invalid("expected either `mint` or `programId`")
    slot = view.reached(config)
    mint = None if mint_text is None else address_of(mint_text)
    programs = TOKEN_PROGRAMS if program_text is None else (address_of(program_text),)
    found = []
    for program in programs:
        for address in sorted(view.chain.machine.owned_by(program), key=bytes):
            account = view.account(address, slot=slot)
            if account is None or not is_token_account(account) or token_owner(account) != owner:
                continue
            if mint is None or token_mint(account) == mint:
                found.append({"pubkey": str(address), "account": account_shape(account, config)})
    return view.answer(found, slot=slot)


def get_recent_prioritization_fees(view: NodeView, params: Params) -> list[Shape]:
    """`getRecentPrioritizationFees`: per slot of the last 150 the lowest price paid that locked these accounts."""
    addresses = frozenset(
        address_of(text) for text in (params.texts(0, count_max=128) if params.has(0) else ())
    )
    return [
        {"slot": slot, "prioritizationFee": price}
        for slot, price in recent_prices(view.chain.history, addresses, upto_slot=view.slot("confirmed"))
    ]


def get_genesis_hash(view: NodeView, params: Params) -> str:
    """`getGenesisHash`: what tells chains apart."""
    return str(view.chain.genesis_hash)


def get_first_available_block(view: NodeView, params: Params) -> int:
    """`getFirstAvailableBlock`: nothing is pruned."""
    return FIRST_SLOT
