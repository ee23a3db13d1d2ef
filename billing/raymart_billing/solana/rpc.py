"""Solana as this process hears of it: through one or two endpoints, of which neither is trusted.

Three kinds of question, three ways to ask:

- What only helps (a blockhash, a fee, a simulation, an account's balance before sending) is asked of the first endpoint
  that answers.
- What decides about money (`block_height`, `slot`, `statuses`, `presences`, `transaction`) is asked of all of them, and
  the answer is the most cautious of theirs: the lowest height, final only when final everywhere, absent only when absent
  everywhere. While one of two is away these questions have no answer, and whoever asks waits.
- What is sent goes to all, and what they say about it is logged and thrown away.

An error is never evidence (ADR 0024). Source: Solana's RPC methods (solana.com/docs/rpc/http).
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeVar

import structlog

from raymart_billing.solana import answers
from raymart_billing.solana.answers import (
    Blockhash,
    ChainAccount,
    ChainTransaction,
    Confirmation,
    Malformed,
    Presence,
    SignatureInfo,
    SignatureStatus,
    Simulation,
)
from raymart_billing.solana.errors import EndpointsDisagree, RpcError, WrongChain
from raymart_billing.solana.transport import Endpoint, Transport, malformed, open_transport

log = structlog.get_logger()

TIMEOUT_S = 10.0
STATUSES_MAX = 256
ACCOUNTS_MAX = 100
SIGNATURES_MAX = 1_000
FEE_ADDRESSES_MAX = 128
GENESIS_HASHES: Mapping[str, str] = MappingProxyType(
    {
        "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d": "solana:mainnet",
        "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG": "solana:devnet",
        "4uhcVJyU9pJkvQyS88uRDiswHXSCkY3zQawwpjk2NsNY": "solana:testnet",
    }
)
"""The chains that everybody shares, by the hash of their first block. Any other is somebody's own."""
Commitment = Literal["processed", "confirmed", "finalized"]
Answer = TypeVar("Answer")


class SolanaRpc:
    """Requests to `endpoints`, which must be of chain `chain_id`. For one event loop; close it when the process ends."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        chain_id: str = "solana:localnet",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        assert endpoints, "a chain needs an endpoint"
        self._transports: tuple[Transport, ...] = tuple(
            open_transport(endpoint, number=number, timeout_s=timeout_s)
            for number, endpoint in enumerate(endpoints, start=1)
        )
        self._chain_id = chain_id
        self._genesis: str | None = None
        self._rents: dict[int, int] = {}

    @property
    def endpoints(self) -> int:
        """How many there are; an `endpoint` is an index below it."""
        return len(self._transports)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports:
            await transport.aclose()

    async def check(self) -> None:
        """See that all endpoints are of one chain, the expected one. Once per process; the methods that matter do so too.

        Raises: WrongChain, RpcError.
        """
        if self._genesis is not None:
            return
        hashes = await self._ask_all("getGenesisHash", [], answers.read_text)
        if len(set(hashes)) > 1:
            told = ", ".join(
                f"{transport.name}: {found}"
                for transport, found in zip(self._transports, hashes, strict=True)
            )
            raise WrongChain(f"the endpoints of SOLANA_RPC_URL serve different chains ({told}); correct one")
        found = GENESIS_HASHES.get(hashes[0], "solana:localnet")
        if found != self._chain_id:
            raise WrongChain(
                f"SOLANA_RPC_URL serves {found} (genesis {hashes[0]}) and RAYMART_SOLANA_CHAIN_ID says"
                f" {self._chain_id}; correct one of them"
            )
        self._genesis = hashes[0]

    async def request(self, method: str, params: Sequence[object], *, endpoint: int | None = None) -> object:
        """The raw result, of `endpoint` or of the first that answers. Raises: RpcRefused, RpcUnavailable."""
        return await self._ask(method, params, lambda result: result, endpoint=endpoint)

    # What decides about money: asked of all.

    async def block_height(self, commitment: Commitment = "finalized") -> int:
        """The lowest height of all endpoints. Read it before `statuses`: what lands in between is then not missed."""
        return min(await self._ask_all("getBlockHeight", [{"commitment": commitment}], answers.read_count))

    async def slot(self, commitment: Commitment = "finalized") -> int:
        """The lowest slot of all endpoints: one that each of them can be asked to have reached."""
        return min(await self._ask_all("getSlot", [{"commitment": commitment}], answers.read_count))

    async def statuses(self, signatures: Sequence[str]) -> list[SignatureStatus | None]:
        """Where each transaction is, whole history searched. None: no endpoint has heard of it.

        Finalized only when all endpoints say so and agree on the outcome.
        """
        found: list[SignatureStatus | None] = []
        for batch in _batches([str(signature) for signature in signatures], STATUSES_MAX):
            told = await self._ask_all(
                "getSignatureStatuses",
                [batch, {"searchTransactionHistory": True}],
                partial(answers.read_statuses, asked=len(batch)),
            )
            found += [weakest(views) for views in zip(*told, strict=True)]
        for signature, status in zip(signatures, found, strict=True):
            if status is not None and status.is_disputed:
                log.warning("chain.endpoints_differ", signature=str(signature), slot=status.slot)
        return found

    async def presences(
        self, addresses: Sequence[object], *, min_context_slot: int | None = None
    ) -> list[Presence]:
        """Whether each account exists at `finalized`, as of `min_context_slot` or later, by all endpoints."""
        options = _account_options("finalized", min_context_slot)
        found: list[Presence] = []
        for batch in _batches([str(address) for address in addresses], ACCOUNTS_MAX):
            told = await self._ask_all(
                "getMultipleAccounts", [batch, options], partial(answers.read_accounts, addresses=batch)
            )
            found += [_presence(views) for views in zip(*told, strict=True)]
        for address, presence in zip(addresses, found, strict=True):
            if presence is Presence.DISPUTED:
                log.warning("chain.endpoints_differ", account=str(address))
        return found

    async def transaction(self, signature: str) -> ChainTransaction | None:
        """A finalized transaction; None unless all endpoints have it. Raises: EndpointsDisagree, RpcError."""
        options = {"commitment": "finalized", "encoding": "json", "maxSupportedTransactionVersion": 1}
        told = await self._ask_all(
            "getTransaction",
            [signature, options],
            partial(answers.read_transaction, signature=signature),
        )
        found = [transaction for transaction in told if transaction is not None]
        if len(found) < len(told):
            if found:
                log.warning("chain.endpoints_differ", signature=signature, slot=found[0].slot)
            return None
        if any(_facts(other) != _facts(found[0]) for other in found[1:]):
            raise EndpointsDisagree(
                f"the endpoints tell different stories of finalized transaction {signature}; look it up by hand and"
                " replace the endpoint that lies"
            )
        return found[0]

    # What only helps: asked of the first that answers.

    async def latest_blockhash(self) -> Blockhash:
        """The newest confirmed one: younger than a finalized one by 13 s, and hardly ever of a fork that is dropped."""
        return await self._ask("getLatestBlockhash", [{"commitment": "confirmed"}], answers.read_blockhash)

    async def accounts(
        self,
        addresses: Sequence[object],
        *,
        commitment: Commitment = "finalized",
        min_context_slot: int | None = None,
        endpoint: int | None = None,
    ) -> list[ChainAccount | None]:
        """The accounts at `addresses`, None where there is nothing."""
        options = _account_options(commitment, min_context_slot)
        found: list[ChainAccount | None] = []
        for batch in _batches([str(address) for address in addresses], ACCOUNTS_MAX):
            found += await self._ask(
                "getMultipleAccounts",
                [batch, options],
                partial(answers.read_accounts, addresses=batch),
                endpoint=endpoint,
            )
        return found

    async def signatures_of(
        self,
        address: object,
        *,
        until: str | None = None,
        before: str | None = None,
        limit: int = SIGNATURES_MAX,
        endpoint: int | None = None,
    ) -> list[SignatureInfo]:
        """Finalized transactions that name `address`, newest first, between `before` and `until` (neither included)."""
        assert 1 <= limit <= SIGNATURES_MAX, f"limit {limit}"
        options: dict[str, object] = {"commitment": "finalized", "limit": limit}
        options |= {"until": until} if until else {}
        options |= {"before": before} if before else {}
        return await self._ask(
            "getSignaturesForAddress", [str(address), options], answers.read_signatures, endpoint=endpoint
        )

    async def simulate(self, raw: bytes) -> Simulation:
        """Run a transaction without its signatures being looked at, on the newest confirmed state."""
        options = {
            "encoding": "base64",
            "commitment": "confirmed",
            "sigVerify": False,
            "replaceRecentBlockhash": True,
        }
        return await self._ask("simulateTransaction", [_base64(raw), options], answers.read_simulation)

    async def rent_exempt(self, space: int) -> int:
        """Lamports that an account of `space` bytes must hold. Asked once."""
        if space not in self._rents:
            self._rents[space] = await self._ask(
                "getMinimumBalanceForRentExemption", [space], answers.read_count
            )
        return self._rents[space]

    async def recent_priority_fee(self, addresses: Sequence[object]) -> int:
        """What three of four recent slots took at most for a transaction writing to `addresses`: micro-lamports a unit."""
        asked = [str(address) for address in addresses[:FEE_ADDRESSES_MAX]]
        fees = sorted(await self._ask("getRecentPrioritizationFees", [asked], answers.read_priority_fees))
        return fees[len(fees) * 3 // 4] if fees else 0

    # What is sent.

    async def broadcast(self, raw: bytes) -> None:
        """Send a signed transaction to all endpoints. Returns when each has answered or failed to; neither says anything."""
        await self.check()
        options = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
        await asyncio.gather(
            *(self._send(transport, [_base64(raw), options]) for transport in self._transports)
        )

    async def _send(self, transport: Transport, params: Sequence[object]) -> None:
        try:
            await transport.call("sendTransaction", params)
        except RpcError as error:
            log.info("transaction.broadcast_refused", endpoint=transport.name, error=error.message)

    async def _ask(
        self,
        method: str,
        params: Sequence[object],
        read: Callable[[object], Answer],
        *,
        endpoint: int | None = None,
    ) -> Answer:
        """Of `endpoint`, or of the first that answers."""
        transports = self._transports if endpoint is None else (self._transports[endpoint],)
        for transport in transports[:-1]:
            try:
                return await _call(transport, method, params, read)
            except RpcError as error:
                log.warning("rpc.failed_over", endpoint=transport.name, method=method, error=error.message)
        return await _call(transports[-1], method, params, read)

    async def _ask_all(
        self, method: str, params: Sequence[object], read: Callable[[object], Answer]
    ) -> list[Answer]:
        """Of each endpoint at once, after seeing that they are of the right chain. Raises what the first failed with."""
        if method != "getGenesisHash":
            await self.check()
        return await _together(_call(transport, method, params, read) for transport in self._transports)


def weakest(views: Sequence[SignatureStatus | None]) -> SignatureStatus | None:
    """What one may believe of several endpoints' views of one transaction."""
    known = [view for view in views if view is not None]
    if not known:
        return None
    rank = list(Confirmation).index
    lowest = min(known, key=lambda view: rank(view.confirmation))
    outcomes = {(view.error, view.slot) for view in known}
    if len(known) == len(views) and len(outcomes) == 1:
        return lowest
    # Somebody has it, so it is not absent; not all tell the same, so it is not final. An endpoint that is behind ends
    # this by itself, one that lies does not.
    confirmation = min(lowest.confirmation, Confirmation.CONFIRMED, key=rank)
    confirmation = confirmation if len(known) == len(views) else Confirmation.PROCESSED
    finalized = [view for view in known if view.confirmation is Confirmation.FINALIZED]
    return SignatureStatus(
        confirmation=confirmation, error=lowest.error, slot=lowest.slot, is_disputed=bool(finalized)
    )


def _presence(views: Sequence[ChainAccount | None]) -> Presence:
    if all(view is not None for view in views):
        return Presence.PRESENT
    return Presence.ABSENT if all(view is None for view in views) else Presence.DISPUTED


async def _call(
    transport: Transport, method: str, params: Sequence[object], read: Callable[[object], Answer]
) -> Answer:
    result = await transport.call(method, params)
    try:
        return read(result)
    except Malformed as error:
        raise malformed(transport.name, method, f"something else ({error})") from error


async def _together(calls: Iterable[Awaitable[Answer]]) -> list[Answer]:
    """All results. All calls have ended when it raises."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    found: list[Answer] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found


def _account_options(commitment: Commitment, min_context_slot: int | None) -> dict[str, object]:
    options: dict[str, object] = {"commitment": commitment, "encoding": "base64"}
    return options if min_context_slot is None else {**options, "minContextSlot": min_context_slot}


def _facts(transaction: ChainTransaction) -> tuple[object, ...]:
    """Without the block's time, which nodes estimate."""
    return (
        transaction.slot,
        transaction.error,
        transaction.accounts,
        transaction.lamports_after,
        transaction.token_balances,
    )


def _batches(items: list[str], size: int) -> Iterable[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
