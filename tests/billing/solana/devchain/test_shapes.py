"""Answers have the shapes of Solana's own types, which parse them strictly."""

import base64
import json

import pytest
from solders.keypair import Keypair
from solders.message import to_bytes_versioned
from solders.rpc import responses
from solders.transaction import VersionedTransaction
from spl.token.constants import TOKEN_PROGRAM_ID

from support.dev_chain import USDC, Market

BASE64 = {"encoding": "base64", "commitment": "processed"}


@pytest.fixture(scope="module")
def scene():
    """A chain with a payment of version 1 that is final and one of version 0 that is not."""
    market = Market.funded()
    payee = market.wallet()
    paying = market.transfer(market.treasury, payee.pubkey(), micro_usdc=USDC)
    signatures = []
    for raw in (
        market.v1(market.treasury, paying, units=10_000, priority_fee=5),
        market.v0(market.treasury, paying),
    ):
        market.chain.finalize()
        landed = market.chain.chain.land(raw, slot=market.chain.slot)
        signatures.append(landed.signature)
    market.chain.advance(1)
    return market, payee, signatures


def asked(scene):
    """Each method with parameters, and the type that its response is of."""
    market, payee, (first, second) = scene
    raw = market.v1(market.treasury, market.transfer(market.treasury, payee.pubkey(), micro_usdc=1))
    tokens, mint, wallet = str(market.treasury_tokens), str(market.mint), str(payee.pubkey())
    newest = {"maxSupportedTransactionVersion": 1, "commitment": "confirmed"}
    encoded = base64_of(raw)
    return [
        ("getAccountInfo", [tokens, BASE64], responses.GetAccountInfoResp),
        ("getAccountInfo", [wallet, {"commitment": "processed"}], responses.GetAccountInfoResp),
        ("getAccountInfo", [str(Keypair().pubkey())], responses.GetAccountInfoResp),
        (
            "getMultipleAccounts",
            [[tokens, str(Keypair().pubkey())], BASE64],
            responses.GetMultipleAccountsResp,
        ),
        ("getBalance", [wallet], responses.GetBalanceResp),
        ("getBlockHeight", [], responses.GetBlockHeightResp),
        ("getBlockTime", [1_001], responses.GetBlockTimeResp),
        ("getEpochInfo", [], responses.GetEpochInfoResp),
        ("getFeeForMessage", [base64_of(message_of(raw)), BASE64], responses.GetFeeForMessageResp),
        ("getFirstAvailableBlock", [], responses.GetFirstAvailableBlockResp),
        ("getGenesisHash", [], responses.GetGenesisHashResp),
        ("getHealth", [], responses.GetHealthResp),
        ("getLatestBlockhash", [], responses.GetLatestBlockhashResp),
        ("getMinimumBalanceForRentExemption", [165], responses.GetMinimumBalanceForRentExemptionResp),
        ("getSignatureStatuses", [[first, second]], responses.GetSignatureStatusesResp),
        (
            "getSignaturesForAddress",
            [tokens, {"commitment": "confirmed"}],
            responses.GetSignaturesForAddressResp,
        ),
        ("getSlot", [], responses.GetSlotResp),
        ("getTokenAccountBalance", [tokens], responses.GetTokenAccountBalanceResp),
        ("getTokenAccountsByOwner", [wallet, {"mint": mint}, BASE64], responses.GetTokenAccountsByOwnerResp),
        (
            "getTokenAccountsByOwner",
            [wallet, {"programId": str(TOKEN_PROGRAM_ID)}, BASE64],
            responses.GetTokenAccountsByOwnerResp,
        ),
        ("getTokenSupply", [mint], responses.GetTokenSupplyResp),
        ("getTransaction", [first, {"encoding": "json", **newest}], responses.GetTransactionResp),
        ("getTransaction", [first, {"encoding": "base64", **newest}], responses.GetTransactionResp),
        ("getTransaction", [second, {"encoding": "json", **newest}], responses.GetTransactionResp),
        ("getTransaction", [second, {"encoding": "base58", **newest}], responses.GetTransactionResp),
        ("isBlockhashValid", [str(market.blockhash()), BASE64], responses.IsBlockhashValidResp),
        ("requestAirdrop", [wallet, 1_000_000], responses.RequestAirdropResp),
        ("simulateTransaction", [encoded, BASE64], responses.SimulateTransactionResp),
        (
            "simulateTransaction",
            [encoded, {**BASE64, "accounts": {"encoding": "base64", "addresses": [tokens]}}],
            responses.SimulateTransactionResp,
        ),
        ("sendTransaction", [encoded, {"encoding": "base64"}], responses.SendTransactionResp),
    ]


class TestShapes:
    def test_every_method_answers_in_its_own_type(self, scene):
        market = scene[0]
        for method, params, kind in asked(scene):
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            response = market.chain.first_node.respond(request)
            assert "error" not in response, (method, response)
            parsed = kind.from_json(json.dumps(response))
            assert type(parsed) is kind, (method, response, parsed)

    def test_what_is_parsed_is_what_was_sent(self, scene):
        market, payee, (first, _) = scene
        options = {"encoding": "json", "maxSupportedTransactionVersion": 1}
        request = {"jsonrpc": "2.0", "id": 1, "method": "getTransaction", "params": [first, options]}
        found = responses.GetTransactionResp.from_json(
            json.dumps(market.chain.first_node.respond(request))
        ).value
        config = found.transaction.transaction.message.transaction_config
        assert (config.priority_fee, config.compute_unit_limit) == (5, 10_000)
        gained = {one.owner: one.ui_token_amount.amount for one in found.transaction.meta.post_token_balances}
        assert gained[payee.pubkey()] == str(USDC)
        assert found.transaction.meta.fee == 5_005

    def test_refusals_of_preflight_parse_too(self, scene):
        market = scene[0]
        poor = market.wallet()
        raw = market.v0(poor, market.transfer(poor, market.treasury.pubkey(), micro_usdc=1))
        params = [base64_of(raw), {"encoding": "base64", "preflightCommitment": "processed"}]
        response = market.chain.first_node.respond(
            {"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": params}
        )
        parsed = responses.SendTransactionResp.from_json(json.dumps(response))
        assert type(parsed) is responses.SendTransactionPreflightFailureMessage
        assert parsed.data.err.err.code == 1

    def test_prices_are_those_that_locked_the_accounts_in_the_last_150_slots(self, scene):
        market = scene[0]
        request = {"jsonrpc": "2.0", "id": 1, "method": "getRecentPrioritizationFees", "params": []}
        found = market.chain.first_node.respond({**request, "params": [[str(market.treasury_tokens)]]})[
            "result"
        ]
        # 5 lamports for 10,000 units are 500 micro-lamports a unit.
        assert 500 in {one["prioritizationFee"] for one in found}
        elsewhere = market.chain.first_node.respond({**request, "params": [[str(Keypair().pubkey())]]})[
            "result"
        ]
        assert {one["prioritizationFee"] for one in elsewhere} == {0}
        assert 100 < len(found) <= 150


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def message_of(raw: bytes) -> bytes:
    return to_bytes_versioned(VersionedTransaction.from_bytes(raw).message)
