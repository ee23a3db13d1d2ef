"""The worker's periodic, on the development chain's server: it reads when it is due, and only then."""

from pathlib import Path

from sqlalchemy import select

from raymart_billing.usdc_deposits.models import UsdcDeposit, UsdcDepositState, UsdcScan
from raymart_billing.usdc_deposits.tasks import PERIODICS
from raymart_billing.work.process import open_resources
from raymart_marketplace.db.session import Sessions, session_scope
from support.background import a_context, control_settings
from support.dev_chain_process import DevChainProcess

RUNS_MAX = 2_000
[SCAN] = PERIODICS


class TestScan:
    async def test_it_reads_what_is_final_and_then_waits_its_time(
        self, sessions: Sessions, database_url: str, tmp_path: Path
    ):
        with DevChainProcess(tmp_path) as chain:
            told = chain.told
            signature = chain.ask("devchain_giveTokens", told["treasury"], 5, told["usdc_mint"])
            settings = control_settings(
                database_url,
                SOLANA_RPC_URL=told["rpc_url"],
                solana_chain_id="solana:localnet",
                treasury_address=told["treasury"],
                usdc_mint=told["usdc_mint"],
            )
            async with open_resources(settings) as resources:
                assert resources.chain is not None
                account = str(resources.chain.treasury_token_account)
                for _ in range(RUNS_MAX):
                    await SCAN.handle(a_context(resources))
                    if (found := await state_of(sessions, signature)) is UsdcDepositState.FINAL:
                        break
                    await due_again(sessions, account)
                assert found is UsdcDepositState.FINAL
                first = await scanned_at(sessions, account)
                await SCAN.handle(a_context(resources))
                assert await scanned_at(sessions, account) == first
                await due_again(sessions, account)
                await SCAN.handle(a_context(resources))
                assert await scanned_at(sessions, account) not in {None, first}

    async def test_without_a_chain_it_does_nothing(self, sessions: Sessions, database_url: str):
        async with open_resources(control_settings(database_url)) as resources:
            assert resources.chain is None
            await SCAN.handle(a_context(resources))


async def state_of(sessions: Sessions, signature: str) -> UsdcDepositState | None:
    async with session_scope(sessions) as session:
        return await session.scalar(select(UsdcDeposit.state).where(UsdcDeposit.signature == signature))


async def scanned_at(sessions: Sessions, account: str):
    async with session_scope(sessions) as session:
        return await session.scalar(select(UsdcScan.scanned_at).where(UsdcScan.account == account))


async def due_again(sessions: Sessions, account: str) -> None:
    """Let the pause be over."""
    async with session_scope(sessions) as session:
        scan = await session.get_one(UsdcScan, account)
        scan.scanned_at = None
