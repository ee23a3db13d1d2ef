"""A node: takes JSON-RPC requests about the chain and answers them, or fails as nodes do."""

from collections.abc import Callable, Mapping
from typing import Final

from raymart_billing.solana.devchain import history_methods, reading, sending
from raymart_billing.solana.devchain.chain import Chain
from raymart_billing.solana.devchain.errors import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NodeUnavailable,
    RpcError,
)
from raymart_billing.solana.devchain.faults import Faults
from raymart_billing.solana.devchain.params import Params, invalid
from raymart_billing.solana.devchain.view import NodeView

Method = Callable[[NodeView, Params], object]

METHODS: Final[Mapping[str, Method]] = {
    "getAccountInfo": reading.get_account_info,
    "getBalance": reading.get_balance,
    "getBlockHeight": reading.get_block_height,
    "getBlockTime": reading.get_block_time,
    "getEpochInfo": reading.get_epoch_info,
    "getFeeForMessage": sending.get_fee_for_message,
    "getFirstAvailableBlock": reading.get_first_available_block,
    "getGenesisHash": reading.get_genesis_hash,
    "getHealth": reading.get_health,
    "getLatestBlockhash": reading.get_latest_blockhash,
    "getMinimumBalanceForRentExemption": reading.get_minimum_balance_for_rent_exemption,
    "getMultipleAccounts": reading.get_multiple_accounts,
    "getRecentPrioritizationFees": reading.get_recent_prioritization_fees,
    "getSignatureStatuses": history_methods.get_signature_statuses,
    "getSignaturesForAddress": history_methods.get_signatures_for_address,
    "getSlot": reading.get_slot,
    "getTokenAccountBalance": reading.get_token_account_balance,
    "getTokenAccountsByOwner": reading.get_token_accounts_by_owner,
    "getTokenSupply": reading.get_token_supply,
    "getTransaction": history_methods.get_transaction,
    "getVersion": reading.get_version,
    "isBlockhashValid": reading.is_blockhash_valid,
    "sendTransaction": sending.send_transaction,
    "simulateTransaction": sending.simulate_transaction,
}


class Node:
    """One node of the chain, with faults of its own. Several may be asked about the same chain."""

    def __init__(self, chain: Chain, *, more_methods: Mapping[str, Method] | None = None) -> None:
        self.faults = Faults()
        self.view = NodeView(chain, self.faults)
        self._methods = {**METHODS, **(more_methods or {})}

    async def handle(self, request: Mapping[str, object]) -> dict[str, object]:
        """The response to one JSON-RPC request. Raises: NodeUnavailable, as a broken connection."""
        return self.respond(request)

    def respond(self, request: Mapping[str, object]) -> dict[str, object]:
        """The same, at once: nothing in here waits."""
        if self.faults.unavailable > 0:
            self.faults.unavailable -= 1
            raise NodeUnavailable("the node is not reachable")
        response = respond(request, self._result)
        if self.faults.unavailable_after > 0:
            self.faults.unavailable_after -= 1
            raise NodeUnavailable("the connection broke before the answer")
        return response

    def _result(self, name: str, params: Params) -> object:
        method = self._methods.get(name)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        self.view.chain.catch_up()
        return method(self.view, params)


def respond(request: Mapping[str, object], method: Callable[[str, Params], object]) -> dict[str, object]:
    """The JSON-RPC response: the result of `method` with the request's name and parameters, or its RpcError."""
    response: dict[str, object] = {"jsonrpc": "2.0", "id": request.get("id")}
    try:
        name, params = request.get("method"), request.get("params")
        if request.get("jsonrpc") != "2.0" or not isinstance(name, str):
            raise RpcError(INVALID_REQUEST, "Invalid request")
        if params is not None and not isinstance(params, list):
            raise invalid("expected an array of parameters")
        response["result"] = method(name, Params(params or ()))
    except RpcError as error:
        response["error"] = error.as_json()
    return response
