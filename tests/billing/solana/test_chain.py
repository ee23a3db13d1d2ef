import json
from pathlib import Path

import pytest
from solders.keypair import Keypair

from raymart_billing.solana import (
    Endpoint,
    RpcError,
    Shortage,
    SignerMisconfigured,
    SigningRefused,
    WrongChain,
    build_payout,
    open_chain,
    required,
)
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.signing import Books
from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_marketplace.chain_settings import ChainSettings
from support.dev_chain import USDC, Market
from support.scripted_endpoint import scripted
from support.treasury import LIMITS, OpenBooks, Treasury


def opened(
    market: Market, *, books: Books | None = None, endpoints: list[Endpoint] | None = None, **changes: object
) -> Chain:
    settings = ChainSettings(
        **{
            "solana_chain_id": "solana:localnet",
            "solana_rpc_urls": "http://127.0.0.1:1",
            "treasury_address": str(market.treasury.pubkey()),
            "usdc_mint": str(market.mint),
            **changes,
        }
    )
    return required(open_chain(settings, books=books, endpoints=endpoints or [market.chain.handle]))


def key_file(folder: Path, key: Keypair) -> Path:
    path = folder / "treasury.json"
    path.write_text(json.dumps(list(bytes(key))))
    path.chmod(0o600)
    return path


class TestOpenChain:
    def test_without_endpoints_there_is_none_and_who_needs_it_is_told(self) -> None:
        assert open_chain(ChainSettings()) is None
        with pytest.raises(Unavailable, match="the operator sets SOLANA_RPC_URL"):
            required(None)

    async def test_it_knows_the_treasurys_accounts(self) -> None:
        market = Market.funded()
        chain = opened(market)
        assert (chain.treasury, chain.mint) == (market.treasury.pubkey(), market.mint)
        assert chain.treasury_token_account == market.treasury_tokens == chain.source.token_account
        await chain.aclose()


class TestSigner:
    def test_a_process_without_books_never_signs(self, tmp_path: Path) -> None:
        market = Market.funded()
        chain = opened(market, treasury_keypair=key_file(tmp_path, market.treasury))
        with pytest.raises(SignerMisconfigured, match="only workers hold"):
            _ = chain.signer

    def test_a_worker_without_a_key_is_told_what_to_set(self) -> None:
        with pytest.raises(SignerMisconfigured, match="RAYMART_TREASURY_KEYPAIR"):
            _ = opened(Market.funded(), books=OpenBooks()).signer

    def test_another_wallets_key_is_refused(self, tmp_path: Path) -> None:
        chain = opened(Market.funded(), books=OpenBooks(), treasury_keypair=key_file(tmp_path, Keypair()))
        with pytest.raises(SignerMisconfigured, match="RAYMART_TREASURY_ADDRESS"):
            _ = chain.signer

    async def test_a_worker_signs_within_the_settings_caps(self, tmp_path: Path) -> None:
        market = Market.funded()
        chain = opened(
            market,
            books=OpenBooks(),
            treasury_keypair=key_file(tmp_path, market.treasury),
            payout_marker_key="k" * 32,
            payout_transaction_usdc_max=10,
            payout_day_usdc_max=10,
        )
        payees = Treasury(market).payees([market.wallet()], micro_usdc=10 * USDC)

        async def signed(paid: list) -> bytes:
            transaction = build_payout(
                chain.source,
                paid,
                marker=chain.marker(new_id(), 0),
                marker_rent_lamports=await chain.rpc.rent_exempt(0),
                memo="test",
                blockhash=(await chain.rpc.latest_blockhash()).hash,
                limits=LIMITS,
                version=chain.version,
            )
            return transaction.signed(await chain.signer.sign(transaction.message))

        await chain.rpc.broadcast(await signed(payees))
        with pytest.raises(SigningRefused, match="may move 10000000"):
            await signed(Treasury(market).payees([market.wallet()], micro_usdc=10 * USDC + 1))
        await chain.aclose()

    def test_markers_need_a_key(self) -> None:
        with pytest.raises(SignerMisconfigured, match="RAYMART_PAYOUT_MARKER_KEY"):
            opened(Market.funded()).marker(new_id(), 0)


class TestCheck:
    async def test_usdc_on_the_right_chain_passes(self) -> None:
        chain = opened(Market.funded())
        await chain.check()
        await chain.check()

    async def test_another_token_is_not_taken_for_usdc(self) -> None:
        market = Market.funded()
        nine = market.chain.faucet.create_mint("nine", decimals=9)
        market.chain.finalize()
        for mint in (nine, market.treasury.pubkey(), Keypair().pubkey()):
            with pytest.raises(WrongChain, match="correct RAYMART_USDC_MINT"):
                await opened(market, usdc_mint=str(mint)).check()

    async def test_another_chain_is_refused(self) -> None:
        with pytest.raises(WrongChain):
            await opened(Market.funded(), solana_chain_id="solana:mainnet").check()


class TestFunds:
    async def test_they_are_what_the_treasury_holds(self) -> None:
        market = Market.funded(micro_usdc=70)
        chain = opened(market)
        funds = await chain.funds()
        assert (funds.lamports, funds.micro_usdc) == (market.lamports(chain.treasury), 70)
        assert funds.shortages(lamports=5_000, micro_usdc=70) == ()
        assert funds.shortages(lamports=funds.lamports, micro_usdc=71) == (Shortage.USDC, Shortage.SOL)

    async def test_a_treasury_that_is_not_there_yet_has_nothing(self) -> None:
        funds = await opened(Market.funded(), treasury_address=str(Keypair().pubkey())).funds()
        assert (funds.lamports, funds.micro_usdc, funds.has_token_account) == (0, 0, False)

    async def test_a_frozen_treasury_says_so(self) -> None:
        market = Market.funded()
        market.chain.faucet.freeze(market.treasury_tokens, mint=market.mint)
        market.chain.finalize()
        assert (await opened(market).funds()).shortages(lamports=0, micro_usdc=1) == (Shortage.FROZEN,)

    async def test_no_answer_is_not_an_empty_treasury(self) -> None:
        with pytest.raises(RpcError):
            await opened(Market.funded(), endpoints=[scripted({})]).funds()
