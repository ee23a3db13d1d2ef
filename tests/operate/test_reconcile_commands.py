"""`raymart payouts reconcile` and its company, in this process, against a chain behind real HTTP."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import uvicorn

from raymart_billing.solana.devchain import DevChain
from raymart_local.ports import free_port
from raymart_local.postgres import EmbeddedPostgres
from support.chaos_chain import Control, application
from support.command_line import failed, run
from support.dev_chain import USDC
from support.empty_database import migrated_database_url
from support.reconciling import Reconciling, reconciling
from support.sending import MARKER_KEY

__all__ = ["migrated_database_url"]


@contextmanager
def served(chain: DevChain) -> Iterator[Sequence[str]]:
    """Addresses of two nodes of `chain`, which nobody else may use meanwhile."""
    control = Control(chain, [chain.node(), chain.node()])
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application(control), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield [f"http://127.0.0.1:{port}/{number}" for number in range(2)]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
async def world(postgres: EmbeddedPostgres, migrated_database_url: str) -> AsyncIterator[Reconciling]:
    runtime_url = urlsplit(postgres.runtime_url)._replace(path=urlsplit(migrated_database_url).path).geturl()
    async with reconciling(migrated_database_url, runtime_url) as made:
        yield made


async def raymart(world: Reconciling, *arguments: str):
    """`raymart payouts <arguments>` as an operator runs it, with everything but the treasury's key."""
    with served(world.sending.market.chain) as nodes:
        return await asyncio.to_thread(
            run,
            world.runtime_url,
            "payouts",
            *arguments,
            SOLANA_RPC_URL=",".join(nodes),
            RAYMART_SOLANA_CHAIN_ID="solana:localnet",
            RAYMART_USDC_MINT=str(world.sending.market.mint),
            RAYMART_TREASURY_ADDRESS=str(world.sending.chain.treasury),
            RAYMART_PAYOUT_MARKER_KEY=MARKER_KEY,
        )


class TestReconcile:
    async def test_books_that_agree_are_status_0_and_a_row_edited_by_hand_is_status_1(
        self, world: Reconciling
    ):
        payees = await world.paid(5 * USDC)
        agreed = await raymart(world, "reconcile")
        assert agreed.returncode == 0, agreed
        assert "chain and ledger agree" in agreed.stderr
        world.edit("update payout_item set amount_micro_usdc = amount_micro_usdc + 1")
        differs = await raymart(world, "reconcile", "-o", "json")
        assert differs.returncode == 1
        assert str(payees.items[0]) in differs.stdout
        assert "payouts are stopped" in differs.stderr

    async def test_differences_are_listed_until_they_have_their_reason(self, world: Reconciling):
        await world.paid(5 * USDC)
        world.edit("update payout_part set slot = slot + 1")
        await raymart(world, "reconcile")
        listed = await raymart(world, "differences", "-o", "json")
        assert '"chain_facts"' in listed.stdout
        number = await world.sending.rows.value("select number from reconciliation_difference")
        resolved = await raymart(world, "resolve", str(number), "--reason", "a drill")
        assert "none is open any more" in resolved.stderr
        assert "chain_facts" not in (await raymart(world, "differences", "-o", "json")).stdout

    async def test_what_the_platform_took_out_is_recorded_by_its_transaction(self, world: Reconciling):
        market = world.sending.market
        vault = market.wallet()
        signature = await market.pay(market.treasury, vault.pubkey(), micro_usdc=3 * USDC)
        market.chain.finalize()
        assert (await raymart(world, "reconcile")).returncode == 1
        recorded = await raymart(world, "withdrawn", signature, "--reason", "to the vault")
        assert "3000000 micro-USDC" in recorded.stderr
        assert (await raymart(world, "reconcile")).returncode == 0

    async def test_without_a_chain_it_says_what_to_set(self, world: Reconciling):
        done = await asyncio.to_thread(run, world.runtime_url, "payouts", "reconcile")
        assert "SOLANA_RPC_URL" in failed(done)
