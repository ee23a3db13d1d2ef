"""What the chain tells of transactions and accounts, read from a node's real answers and from broken ones."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from solders.keypair import Keypair

from raymart_billing.solana import ChainTransaction, SolanaRpc, TokenBalance
from raymart_billing.solana.answers import (
    Malformed,
    read_accounts,
    read_blockhash,
    read_count,
    read_signatures,
    read_transaction,
)
from support.dev_chain import Market
from support.treasury import Treasury

OTHER_MINT = str(Keypair().pubkey())


async def payment(market: Market) -> tuple[dict[str, Any], str, ChainTransaction]:
    """A finalized payout of 5 and 9: the node's answer, its signature, and as read."""
    treasury = Treasury(market)
    one, two = market.wallets(2)
    payees = [*treasury.payees([one], micro_usdc=5), *treasury.payees([two], micro_usdc=9)]
    unsigned = await treasury.payout(payees)
    signature = str(await treasury.signer.sign(unsigned.message))
    await treasury.land(unsigned)
    options = {"commitment": "finalized", "encoding": "json", "maxSupportedTransactionVersion": 1}
    answer = await treasury.rpc.request("getTransaction", [signature, options])
    found = await treasury.rpc.transaction(signature)
    assert isinstance(answer, dict)
    assert found is not None
    return answer, signature, found


class TestReadTransaction:
    async def test_a_version_1_payout_is_read_whole(self) -> None:
        market = Market.funded(micro_usdc=100)
        answer, signature, found = await payment(market)
        assert answer["version"] == 1
        assert (found.signature, found.error, found.fee_lamports) == (signature, None, 5_000)
        assert found.signers == (str(market.treasury.pubkey()),)
        changes = {balance.account: (balance.before, balance.after) for balance in found.token_balances}
        assert changes.pop(str(market.treasury_tokens)) == (100, 86)
        assert sorted(changes.values()) == [(0, 5), (0, 9)]
        assert {balance.mint for balance in found.token_balances} == {str(market.mint)}
        before, after = dict(zip(found.accounts, found.lamports_before, strict=True)), found.lamports_after
        spent = before[str(market.treasury.pubkey())] - after[0]
        assert spent == 5_000 + await SolanaRpc([market.chain.handle]).rent_exempt(0)

    async def test_nothing_is_none(self) -> None:
        assert read_transaction(None, "signature") is None

    async def test_accounts_of_lookup_tables_come_after_the_messages_own(self) -> None:
        answer, signature, found = await payment(Market.funded())
        write, readable, mint, owner = (str(Keypair().pubkey()) for _ in range(4))
        answer["meta"]["loadedAddresses"] = {"writable": [write], "readonly": [readable]}
        for name in ("preBalances", "postBalances"):
            answer["meta"][name] += [1, 2]
        answer["meta"]["postTokenBalances"].append(
            {
                "accountIndex": len(found.accounts),
                "mint": mint,
                "owner": owner,
                "uiTokenAmount": {"amount": "7"},
            }
        )
        read = read_transaction(answer, signature)
        assert read is not None
        assert read.accounts == (*found.accounts, write, readable)
        assert TokenBalance(account=write, mint=mint, owner=owner, before=0, after=7) in read.token_balances

    async def test_an_account_made_anew_for_another_mint_is_two_balances(self) -> None:
        answer, signature, _ = await payment(Market.funded())
        entry = copy.deepcopy(answer["meta"]["postTokenBalances"][0]) | {"mint": OTHER_MINT}
        answer["meta"]["postTokenBalances"].append(entry)
        read = read_transaction(answer, signature)
        assert read is not None
        (other,) = (balance for balance in read.token_balances if balance.mint == OTHER_MINT)
        assert other.before == 0

    @pytest.mark.parametrize(
        "breaks",
        [
            lambda answer: answer["meta"].update(preBalances=[1]),
            lambda answer: answer["meta"].update(fee=-1),
            lambda answer: answer["meta"].pop("err"),
            lambda answer: answer.update(slot=2**63),
            lambda answer: answer.update(meta=None),
            lambda answer: answer["transaction"].update(signatures=[]),
            lambda answer: answer["transaction"]["message"]["header"].update(numRequiredSignatures=200),
            lambda answer: answer["meta"]["postTokenBalances"][0].update(accountIndex=99),
            lambda answer: answer["meta"]["postTokenBalances"].append(answer["meta"]["postTokenBalances"][0]),
            lambda answer: answer["meta"]["postTokenBalances"][0]["uiTokenAmount"].update(amount="-5"),
            lambda answer: answer["meta"]["postTokenBalances"][0]["uiTokenAmount"].update(amount="5.0"),
            lambda answer: answer["meta"]["postTokenBalances"][0]["uiTokenAmount"].update(amount="٣"),
        ],
    )
    async def test_what_does_not_fit_together_is_malformed(
        self, breaks: Callable[[dict[str, Any]], object]
    ) -> None:
        answer, signature, _ = await payment(Market.funded())
        breaks(answer)
        with pytest.raises(Malformed):
            read_transaction(answer, signature)


class TestReadAccounts:
    ACCOUNT = {"lamports": 1, "owner": "1" * 32, "data": ["AAEC", "base64"], "executable": False}

    def read(self, **changes: object):
        return read_accounts({"context": {"slot": 3}, "value": [self.ACCOUNT | changes]}, ["A"])

    def test_it_is_read_with_its_slot(self) -> None:
        (account,) = self.read(rentEpoch=2**64 - 1, space=3)
        assert account is not None
        assert (account.address, account.data, account.slot) == ("A", b"\x00\x01\x02", 3)

    @pytest.mark.parametrize(
        "changes",
        [
            {"data": ["AAEC", "base58"]},
            {"data": ["!", "base64"]},
            {"data": ["é", "base64"]},
            {"data": "AAEC"},
            {"lamports": -1},
            {"lamports": 1.5},
            {"lamports": True},
            {"owner": None},
            {"owner": "0" * 32},
            {"owner": "1" * 32 + "\n"},
            {"owner": "\ud800" * 32},
        ],
    )
    def test_any_other_shape_is_malformed(self, changes: dict[str, object]) -> None:
        with pytest.raises(Malformed):
            self.read(**changes)


class TestNumbers:
    @pytest.mark.parametrize("answer", [None, -1, True, "5", 2**63, [], 1.5])
    def test_what_is_no_count_is_malformed(self, answer: object) -> None:
        with pytest.raises(Malformed):
            read_count(answer)

    @pytest.mark.parametrize("blockhash", [5, "", "1" * 33, "0" * 32, "z" * 44, "\ud800" * 32])
    def test_a_blockhash_that_nothing_can_be_dated_by_is_malformed(self, blockhash: object) -> None:
        with pytest.raises(Malformed):
            read_blockhash(
                {"context": {"slot": 1}, "value": {"blockhash": blockhash, "lastValidBlockHeight": 1}}
            )


class TestReadSignatures:
    def test_a_strangers_memo_is_made_visible(self) -> None:
        info = {"signature": "1" * 64, "slot": 1, "err": None, "memo": "[3] a\x00\x1bb", "blockTime": None}
        (found,) = read_signatures([info])
        assert found.memo == "[3] a  b"
