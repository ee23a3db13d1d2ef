"""The chain as administrators see it at a glance: each endpoint by itself, and what the treasury has."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from raymart_billing.solana.chain import Chain
from raymart_billing.solana.errors import RpcError
from raymart_billing.solana.fees import Funds


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """What one endpoint answers; None and a problem where it does not."""

    number: int
    """From 1, in the order of SOLANA_RPC_URL; its address may hold a key and is not shown."""
    genesis_hash: str | None
    finalized_slot: int | None
    finalized_height: int | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """All endpoints, and the treasury."""

    chain_id: str
    mint: str
    treasury: str
    treasury_account: str
    endpoints: Sequence[EndpointState]
    funds: Funds | None
    """None where no endpoint says."""


async def chain_state(chain: Chain) -> ChainState:
    """Ask all endpoints at once. Raises nothing of the chain's: what does not answer is a problem to show."""
    async with asyncio.TaskGroup() as group:
        endpoints = [group.create_task(_endpoint(chain, number)) for number in range(chain.rpc.endpoints)]
        funds = group.create_task(_funds(chain))
    return ChainState(
        chain_id=chain.id,
        mint=str(chain.mint),
        treasury=str(chain.treasury),
        treasury_account=str(chain.treasury_token_account),
        endpoints=[task.result() for task in endpoints],
        funds=funds.result(),
    )


async def _endpoint(chain: Chain, number: int) -> EndpointState:
    commitment = {"commitment": "finalized"}
    try:
        genesis_hash = await chain.rpc.request("getGenesisHash", [], endpoint=number)
        slot = await chain.rpc.request("getSlot", [commitment], endpoint=number)
        height = await chain.rpc.request("getBlockHeight", [commitment], endpoint=number)
    except RpcError as error:
        return EndpointState(
            number=number + 1,
            genesis_hash=None,
            finalized_slot=None,
            finalized_height=None,
            problem=error.message,
        )
    return EndpointState(
        number=number + 1,
        genesis_hash=str(genesis_hash),
        finalized_slot=slot if isinstance(slot, int) else None,
        finalized_height=height if isinstance(height, int) else None,
        problem=None,
    )


async def _funds(chain: Chain) -> Funds | None:
    try:
        return await chain.funds()
    except RpcError:
        return None
