"""Paying the providers: planned by one person, approved by another, sent by the worker, and looked up on the chain."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from raymart_core.money import Money
from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.graphql import GraphQLClient
from raymart_local.logs import Console

PLANNED_WITHIN_S = 45.0
FINAL_WITHIN_S = 75.0
"""Thirteen seconds on an idle machine: a block is final when 32 were built on it."""
RECONCILED_WITHIN_S = 45.0
NANO_USD_PER_MICRO_USDC = 1_000
_POLL_S = 0.5
_CHAIN_TIMEOUT_S = 10.0
_MINIMUM_USDC = "0.000001"

_POLICY = "{ payoutPolicy { version } }"
_SET_POLICY = """
mutation($input: SetPayoutPolicyInput!) { setPayoutPolicy(input: $input) { userErrors { code message } } }
"""
_PLAN = """
mutation($input: RequestPayoutPlanInput!) { requestPayoutPlan(input: $input) {
  userErrors { code message } item { id } } }
"""
_BATCHES = """
{ payoutBatches(first: 1, kind: EARNINGS) { nodes { number state payees total { amount }
    items(first: 10) { nodes { amount { amount } wallet provider { id slug } outliers { text } } } } } }
"""
_UNPAID = "{ unpaidEarnings(first: 10) { nodes { reason provider { slug } } } }"
_APPROVE = """
mutation($input: ApprovePayoutBatchInput!) { approvePayoutBatch(input: $input) {
  userErrors { code message } batch { state } } }
"""
_SENT = """
query($number: BigInt!) { payoutBatch(number: $number) { state
    parts(first: 10) { nodes { state stateReason signature slot explorerUrl } } } }
"""
_PROVIDER = """
query($id: ID!) { provider(id: $id) { slug
    earnings { payable { amount } reserved { amount } inPayout { amount } }
    payouts(first: 1) { nodes { state amount { amount } wallet tokenAccount signature explorerUrl } } } }
"""
_RECONCILE = """
mutation($input: RequestReconciliationInput!) { requestReconciliation(input: $input) {
  userErrors { code message } run { number } } }
"""
_RUNS = """
{ reconciliationRuns(first: 1) { nodes { number finishedAt error parts transactions balanceMicroUsdc } }
  reconciliationDifferences(first: 5, open: true) { nodes { kind table row expected found } } }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """What one provider got."""

    provider_id: str
    slug: str
    wallet: str
    paid_micro_usdc: int
    """As the provider's own payments say."""
    on_chain_micro_usdc: int
    """As the chain says that its token account has."""
    reserved: Money
    """Kept back until the trust in it has matured."""
    payable: Money
    """Left for the next payout: less than a micro-USDC."""
    in_payout: Money
    signature: str
    explorer_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidProviders:
    """The batch, and what became of it."""

    batch: int
    total_micro_usdc: int
    payouts: Sequence[Payout]
    seconds: float
    """From the approval to finality, as the API shows it."""
    reconciled_transactions: int
    differences: Sequence[str]
    """Between the chain and the ledger; none when both agree."""


class Paymaster:
    """Pays all providers once, over GraphQL; `chain` is the development chain's own description."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        admin: GraphQLClient,
        treasurer: GraphQLClient,
        chain: Path,
        console: Console,
    ) -> None:
        self._http = http
        self._admin = admin
        self._treasurer = treasurer
        self._rpc_url = str(json.loads(chain.read_text())["rpc_url"])
        self._console = console

    async def pay(self, providers: Sequence[tuple[str, GraphQLClient]]) -> PaidProviders:
        """Plan, approve, await finality, look it up. `providers`: ids and their owners. Raises: DemoFailed."""
        batch = await self._planned(len(providers))
        number, total = int(batch["number"]), batch["total"]["amount"]
        for item in batch["items"]["nodes"]:
            unusual = "; ".join(outlier["text"] for outlier in item["outliers"]) or "nothing unusual"
            self._say(f"  {item['amount']['amount']} USDC to {item['provider']['slug']}: {unusual}")
        approved = time.monotonic()
        await self._admin.run(_APPROVE, input={"number": str(number), "total": total})
        self._say(f"the administrator approves batch {number}; the worker sends it")
        await self._final(number)
        seconds = time.monotonic() - approved
        payouts = [await self._payout(provider_id, owner) for provider_id, owner in providers]
        for payout in payouts:
            self._say(f"  {payout.slug} has {payout.on_chain_micro_usdc} micro-USDC: {payout.explorer_url}")
        transactions, differences = await self._reconciled()
        return PaidProviders(
            batch=number,
            total_micro_usdc=_micro(total),
            payouts=payouts,
            seconds=seconds,
            reconciled_transactions=transactions,
            differences=differences,
        )

    async def _planned(self, providers: int) -> Mapping[str, Any]:
        """The batch with all providers, asked for by the treasurer. A wallet that was just chosen is checked meanwhile."""
        version = (await self._admin.run(_POLICY))["payoutPolicy"]["version"]
        change = {"version": version, "minimum": _MINIMUM_USDC, "reason": "the demo pays what it earned"}
        await self._admin.run(_SET_POLICY, input=change)
        self._say("the treasurer ends the epoch and has payouts planned")
        ends_epoch, left_out = True, "nothing was planned"
        until = time.monotonic() + PLANNED_WITHIN_S
        while time.monotonic() < until:
            await self._treasurer.run(_PLAN, input={"endsEpoch": ends_epoch})
            ends_epoch = False
            batch = await self._polled(self._newest_batch, until=min(until, time.monotonic() + 10.0))
            if batch is not None and batch["payees"] == providers:
                return batch
            left = (await self._admin.run(_UNPAID))["unpaidEarnings"]["nodes"]
            left_out = ", ".join(f"{one['provider']['slug']}: {one['reason']}" for one in left)
        raise DemoFailed(f"no batch for {providers} providers within {PLANNED_WITHIN_S:g} s: {left_out}")

    async def _newest_batch(self) -> Mapping[str, Any] | None:
        batches = (await self._admin.run(_BATCHES))["payoutBatches"]["nodes"]
        return batches[0] if batches and batches[0]["state"] == "PLANNED" else None

    async def _final(self, number: int) -> None:
        async def finalized() -> Mapping[str, Any] | None:
            batch: Mapping[str, Any] = (await self._admin.run(_SENT, number=str(number)))["payoutBatch"]
            return batch if batch["state"] == "FINALIZED" else None

        if await self._polled(finalized, until=time.monotonic() + FINAL_WITHIN_S) is None:
            stands = (await self._admin.run(_SENT, number=str(number)))["payoutBatch"]
            raise DemoFailed(
                f"batch {number} was not final within {FINAL_WITHIN_S:g} s: {json.dumps(stands)}"
            )

    async def _payout(self, provider_id: str, owner: GraphQLClient) -> Payout:
        provider = (await owner.run(_PROVIDER, id=provider_id))["provider"]
        [payment] = provider["payouts"]["nodes"]
        if payment["signature"] is None:
            raise DemoFailed(f"the payout of {provider['slug']} is {payment['state']} and has no signature")
        earnings = {name: Money.parse(money["amount"]) for name, money in provider["earnings"].items()}
        return Payout(
            provider_id=provider_id,
            slug=provider["slug"],
            wallet=payment["wallet"],
            paid_micro_usdc=_micro(payment["amount"]["amount"]),
            on_chain_micro_usdc=await self._on_chain(payment["tokenAccount"]),
            reserved=earnings["reserved"],
            payable=earnings["payable"],
            in_payout=earnings["inPayout"],
            signature=payment["signature"],
            explorer_url=payment["explorerUrl"],
        )

    async def _on_chain(self, token_account: str) -> int:
        """Micro-USDC of the account at finalized, by the chain itself."""
        asked = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "getTokenAccountBalance",
            "params": [token_account, {"commitment": "finalized"}],
        }
        answer = (await self._http.post(self._rpc_url, json=asked, timeout=_CHAIN_TIMEOUT_S)).json()
        if "result" not in answer:
            raise DemoFailed(f"the chain does not know {token_account}: {answer.get('error')}")
        return int(answer["result"]["value"]["amount"])

    async def _reconciled(self) -> tuple[int, Sequence[str]]:
        """Compare chain and ledger both ways; how many transactions were looked at, and what differs."""
        wanted = (await self._admin.run(_RECONCILE, input={}))["requestReconciliation"]["run"]["number"]

        async def done() -> Mapping[str, Any] | None:
            found = await self._admin.run(_RUNS)
            [run] = found["reconciliationRuns"]["nodes"]
            return found if run["number"] == wanted and run["finishedAt"] else None

        found = await self._polled(done, until=time.monotonic() + RECONCILED_WITHIN_S)
        if found is None:
            raise DemoFailed(f"reconciliation {wanted} did not end within {RECONCILED_WITHIN_S:g} s")
        [run] = found["reconciliationRuns"]["nodes"]
        differences = [
            f"{one['kind']} {one['table']} {one['row']}: {one['expected']} / {one['found']}"
            for one in found["reconciliationDifferences"]["nodes"]
        ]
        return run["transactions"], [run["error"]] if run["error"] else differences

    async def _polled(
        self, look: Callable[[], Awaitable[Mapping[str, Any] | None]], *, until: float
    ) -> Mapping[str, Any] | None:
        """What `look` finds first, asked again and again; None when nothing came in time."""
        while True:
            found = await look()
            if found is not None or time.monotonic() > until:
                return found
            await asyncio.sleep(_POLL_S)

    def _say(self, text: str) -> None:
        self._console.say("demo", text)


def _micro(usdc: str) -> int:
    return int(Decimal(usdc) * 1_000_000)
