import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from spl.token.instructions import get_associated_token_address

from raymart_billing.solana import ChainAccount, SolanaRpc
from raymart_billing.solana.addresses import (
    explorer_address_url,
    explorer_url,
    is_wallet,
    parse_address,
    token_account,
    why_no_wallet,
)
from raymart_core.errors import InvalidRequest
from support.dev_chain import Market

WALLET = Keypair.from_seed(bytes(range(32))).pubkey()  # One: it is in names of tests.


class TestParseAddress:
    def test_base58_of_32_bytes_is_one(self) -> None:
        assert parse_address(str(WALLET)) == WALLET

    @pytest.mark.parametrize(
        "text", ["", "x", "0" * 44, str(WALLET) + "11", f" {WALLET}", "1" * 5_000, "é" * 32]
    )
    def test_anything_else_is_refused_shortly(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="no Solana address") as refused:
            parse_address(text, param="wallet")
        assert refused.value.param == "wallet"
        assert len(refused.value.message) < 400


def test_a_token_account_is_where_the_program_puts_it() -> None:
    mint = Pubkey.new_unique()
    assert token_account(WALLET, mint) == get_associated_token_address(WALLET, mint)


class TestWhyNoWallet:
    async def account(self, market: Market, address: Pubkey) -> ChainAccount | None:
        return (await SolanaRpc([market.chain.handle]).accounts([address]))[0]

    async def test_a_wallet_is_one_also_before_it_was_used(self) -> None:
        market = Market.funded()
        used, fresh = market.wallet().pubkey(), Keypair().pubkey()
        assert is_wallet(used, await self.account(market, used))
        assert is_wallet(fresh, await self.account(market, fresh))

    async def test_a_token_account_is_none(self) -> None:
        market = Market.funded()
        address = market.tokens_of(market.wallet().pubkey())
        assert "token account" in str(why_no_wallet(address, await self.account(market, address)))
        # Also before it exists: nobody can hold its key.
        assert "off the curve" in str(why_no_wallet(address, None))

    async def test_a_mint_is_none(self) -> None:
        market = Market.funded()
        assert "token account or a mint" in str(
            why_no_wallet(market.mint, await self.account(market, market.mint))
        )

    async def test_a_program_or_what_belongs_to_one_is_none(self) -> None:
        base = {"address": str(WALLET), "lamports": 1, "data": b"", "slot": 1}
        program = ChainAccount(**base, owner=str(WALLET), is_executable=True)
        owned = ChainAccount(**base, owner=str(WALLET), is_executable=False)
        assert "it is a program" in str(why_no_wallet(WALLET, program))
        assert "owned by the program" in str(why_no_wallet(WALLET, owned))


class TestExplorer:
    @pytest.mark.parametrize(
        ("chain_id", "suffix"),
        [
            ("solana:mainnet", ""),
            ("solana:devnet", "?cluster=devnet"),
            ("solana:testnet", "?cluster=testnet"),
            ("solana:localnet", "?cluster=custom"),
        ],
    )
    def test_links_name_the_chain(self, chain_id: str, suffix: str) -> None:
        assert explorer_url("5sig", chain_id) == f"https://explorer.solana.com/tx/5sig{suffix}"
        assert explorer_address_url("wal", chain_id) == f"https://explorer.solana.com/address/wal{suffix}"

    def test_a_chain_of_ones_own_is_named_by_its_address(self) -> None:
        url = explorer_url("5sig", "solana:localnet", rpc_url="http://127.0.0.1:8899/?a=b")
        assert url.endswith("?cluster=custom&customUrl=http%3A%2F%2F127.0.0.1%3A8899%2F%3Fa%3Db")
