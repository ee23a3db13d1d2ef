from dataclasses import replace

import pytest
from solders.keypair import Keypair
from spl.token.constants import TOKEN_2022_PROGRAM_ID

from raymart_billing.solana import ChainAccount, NotATokenAccount, SolanaRpc, TokenAccount, why_unpayable
from raymart_billing.solana.token_accounts import Mint
from support.dev_chain import Market


async def found(market: Market, *addresses: object) -> list[ChainAccount]:
    accounts = await SolanaRpc([market.chain.handle]).accounts(addresses)
    assert None not in accounts
    return accounts


class TestTokenAccount:
    async def test_it_is_read_as_the_program_wrote_it(self) -> None:
        market = Market.funded()
        wallet = market.wallet(micro_usdc=1_234_567).pubkey()
        (account,) = await found(market, market.tokens_of(wallet))
        assert TokenAccount.parse(account) == TokenAccount(
            mint=market.mint, owner=wallet, amount=1_234_567, is_frozen=False
        )

    async def test_a_frozen_one_says_so(self) -> None:
        market = Market.funded()
        tokens = market.tokens_of(market.wallet().pubkey())
        market.chain.faucet.freeze(tokens, mint=market.mint)
        market.chain.finalize()
        (account,) = await found(market, tokens)
        assert TokenAccount.parse(account).is_frozen

    async def test_what_is_none_is_refused(self) -> None:
        market = Market.funded()
        wallet = market.wallet().pubkey()
        plain, mint, real = await found(market, wallet, market.mint, market.tokens_of(wallet))
        uninitialized = replace(real, data=real.data[:108] + b"\x00" + real.data[109:])
        for account in (
            plain,
            mint,
            uninitialized,
            replace(real, owner=str(TOKEN_2022_PROGRAM_ID)),
            replace(real, data=real.data + b"\x00"),
            replace(real, data=b""),
        ):
            with pytest.raises(NotATokenAccount):
                TokenAccount.parse(account)


class TestMint:
    async def test_it_is_read_as_the_program_wrote_it(self) -> None:
        market = Market.funded(micro_usdc=77)
        mint, treasury = await found(market, market.mint, market.treasury_tokens)
        assert Mint.parse(mint) == Mint(address=market.mint, decimals=6, supply=77)
        with pytest.raises(NotATokenAccount):
            Mint.parse(treasury)


class TestWhyUnpayable:
    async def test_each_reason_has_its_name(self) -> None:
        market = Market.funded()
        owner, other = market.wallet().pubkey(), Keypair().pubkey()
        account, plain = await found(market, market.tokens_of(owner), owner)
        frozen = replace(account, data=account.data[:108] + b"\x02" + account.data[109:])

        def why(account: ChainAccount | None, **changes: object) -> str | None:
            return why_unpayable(account, **({"owner": owner, "mint": market.mint} | changes))

        assert why(account) is None
        assert why(None) == why(plain) == "account_missing"
        assert why(account, mint=other) == "wrong_mint"
        assert why(account, owner=other) == "wrong_owner"
        assert why(frozen) == "account_frozen"
