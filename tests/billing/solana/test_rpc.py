"""Endpoints that err, lie, lag and answer nonsense: only typed failures come out, and no two endpoints are fooled at once."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair

from raymart_billing.solana import (
    Confirmation,
    EndpointsDisagree,
    Presence,
    RpcError,
    RpcRefused,
    RpcUnavailable,
    SignatureStatus,
    SolanaRpc,
    WrongChain,
)
from raymart_billing.solana.devchain import DevChain
from raymart_billing.solana.failures import read_failure
from raymart_billing.solana.rpc import weakest
from raymart_billing.solana.transport import ANSWER_BYTES_MAX
from support.dev_chain import Market
from support.scripted_endpoint import GENESIS, http_endpoint, refusing, scripted
from support.treasury import Treasury

SIGNATURE = str(Keypair().sign_message(b""))
ADDRESS = str(Keypair().pubkey())
MAINNET = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
QUESTIONS: list[Callable[[SolanaRpc], Awaitable[object]]] = [
    lambda rpc: rpc.check(),
    lambda rpc: rpc.request("getHealth", []),
    lambda rpc: rpc.block_height(),
    lambda rpc: rpc.slot(),
    lambda rpc: rpc.statuses([SIGNATURE, SIGNATURE]),
    lambda rpc: rpc.presences([ADDRESS]),
    lambda rpc: rpc.transaction(SIGNATURE),
    lambda rpc: rpc.latest_blockhash(),
    lambda rpc: rpc.accounts([ADDRESS]),
    lambda rpc: rpc.signatures_of(ADDRESS),
    lambda rpc: rpc.simulate(b"raw"),
    lambda rpc: rpc.rent_exempt(0),
    lambda rpc: rpc.recent_priority_fee([ADDRESS]),
    lambda rpc: rpc.broadcast(b"raw"),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=90)
    | st.sampled_from(["finalized", "base64", SIGNATURE, ADDRESS, "AA=="])
)
NAMES = st.sampled_from(
    [
        *(
            "context",
            "slot",
            "value",
            "err",
            "confirmationStatus",
            "lamports",
            "owner",
            "data",
            "meta",
            "message",
        ),
        *("blockhash", "lastValidBlockHeight", "signature", "transaction", "accountKeys", "header", "fee"),
        *("preBalances", "postBalances", "preTokenBalances", "uiTokenAmount", "amount", "InstructionError"),
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)


EXAMPLES = 40
"""Each asks fourteen questions on an event loop of its own."""


async def ask_everything(rpc: SolanaRpc) -> None:
    """Every question; anything that comes out but an answer or an RpcError fails the test."""
    for question in QUESTIONS:
        with contextlib.suppress(RpcError):
            await question(rpc)


class TestNonsense:
    @settings(max_examples=EXAMPLES)
    @given(result=JSON)
    def test_results_of_any_shape_are_answers_or_typed_failures(self, result: object) -> None:
        endpoint = scripted(lambda method: GENESIS if method == "getGenesisHash" else result)
        asyncio.run(ask_everything(SolanaRpc([endpoint])))

    @settings(max_examples=EXAMPLES)
    @given(value=JSON, slot=st.integers(0, 10))
    def test_values_of_any_shape_are_answers_or_typed_failures(self, value: object, slot: int) -> None:
        result = {"context": {"slot": slot}, "value": value}
        endpoint = scripted(lambda method: GENESIS if method == "getGenesisHash" else result)
        asyncio.run(ask_everything(SolanaRpc([endpoint])))

    @settings(max_examples=EXAMPLES)
    @given(error=JSON)
    def test_errors_of_any_shape_are_typed_failures(self, error: object) -> None:
        asyncio.run(ask_everything(SolanaRpc([refusing(error)])))

    @settings(max_examples=EXAMPLES)
    @given(err=JSON)
    def test_transaction_errors_that_nobody_knows_are_failures(self, err: object) -> None:
        status = {"slot": 1, "confirmations": None, "err": err, "confirmationStatus": "finalized"}
        endpoint = scripted({"getSignatureStatuses": {"context": {"slot": 1}, "value": [status]}})
        (found,) = asyncio.run(SolanaRpc([endpoint]).statuses([SIGNATURE]))
        assert found is not None
        assert (found.error is None) == (err is None)

    @pytest.mark.parametrize("code", [-32002, -32005, -32016, -32601, 429, 0])
    @pytest.mark.parametrize("data", [None, "foo", {"err": "SomeFutureError"}, [1], 7])
    async def test_an_error_with_data_of_any_kind_or_none_is_refused(self, code: int, data: object) -> None:
        rpc = SolanaRpc(
            [refusing({"code": code, "message": "no\n\x1b[31m", **({"data": data} if data else {})})]
        )
        with pytest.raises(RpcRefused) as refused:
            await rpc.latest_blockhash()
        assert (refused.value.rpc_code, refused.value.data) == (code, data)
        assert refused.value.message.isprintable()

    @pytest.mark.parametrize(
        "response",
        [
            {"jsonrpc": "2.0", "id": 1},
            {"jsonrpc": "2.0", "id": 999, "result": 5},
            {"jsonrpc": "2.0", "id": 1, "error": "no"},
            {"jsonrpc": "2.0", "id": 1, "error": {"code": True, "message": "x"}},
            {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000}},
            [],
            None,
        ],
    )
    async def test_a_response_that_answers_nothing_is_unavailable(self, response: object) -> None:
        async def answer(_: object):
            return response

        with pytest.raises(RpcUnavailable):
            await SolanaRpc([answer]).rent_exempt(0)

    async def test_half_a_surrogate_pair_is_no_answer(self) -> None:
        found = {"blockhash": "\ud800" * 32, "lastValidBlockHeight": 1}
        rpc = SolanaRpc([scripted({"getLatestBlockhash": {"context": {"slot": 1}, "value": found}})])
        with pytest.raises(RpcUnavailable):
            await rpc.latest_blockhash()

    async def test_fewer_statuses_than_asked_for_are_no_answer(self) -> None:
        rpc = SolanaRpc([scripted({"getSignatureStatuses": {"context": {"slot": 1}, "value": [None]}})])
        with pytest.raises(RpcUnavailable, match="1 values for 2"):
            await rpc.statuses([SIGNATURE, SIGNATURE])

    async def test_another_transaction_than_asked_for_is_no_answer(self) -> None:
        market = Market.funded()
        other = await market.pay(market.treasury, market.wallet().pubkey(), micro_usdc=5)
        market.chain.finalize()
        real = SolanaRpc([market.chain.handle])
        options = {"encoding": "json", "commitment": "finalized", "maxSupportedTransactionVersion": 1}
        answer = await real.request("getTransaction", [other, options])
        with pytest.raises(RpcUnavailable, match="another transaction"):
            await SolanaRpc([scripted({"getTransaction": answer})]).transaction(SIGNATURE)


class TestHttp:
    @pytest.mark.parametrize(
        "response",
        [
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 15\r\n\r\n<html>502</html",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000,
            b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"\xff\xfe"',
            b"no HTTP at all",
            b"",
        ],
    )
    async def test_what_is_no_answer_is_unavailable(self, response: bytes) -> None:
        async with http_endpoint(response) as url:
            rpc = SolanaRpc([url])
            with pytest.raises(RpcUnavailable) as error:
                await rpc.latest_blockhash()
            await rpc.aclose()
        assert "key-of-ours" not in error.value.message

    async def test_a_silent_server_is_left_after_the_timeout(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            rpc = SolanaRpc([f"http://127.0.0.1:{server.getsockname()[1]}"], timeout_s=0.05)
            with pytest.raises(RpcUnavailable, match="TimeoutError"):
                await rpc.latest_blockhash()
            await rpc.aclose()

    async def test_an_answer_without_end_is_left(self) -> None:
        response = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (ANSWER_BYTES_MAX + 1)
        async with http_endpoint(response, is_silent=True) as url:
            rpc = SolanaRpc([url], timeout_s=60)
            with pytest.raises(RpcUnavailable, match="DecodingError"):
                await rpc.latest_blockhash()
            await rpc.aclose()

    async def test_a_server_that_is_not_there_is_unavailable(self) -> None:
        rpc = SolanaRpc(["http://127.0.0.1:1/key-of-ours"])
        with pytest.raises(RpcUnavailable) as error:
            await rpc.latest_blockhash()
        assert "key-of-ours" not in error.value.message
        await rpc.aclose()

    async def test_an_error_with_status_429_is_read(self) -> None:
        body = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "error": {"code": 429, "message": "slow down"}}
        ).encode()
        async with http_endpoint(
            b"HTTP/1.1 429 Too Many\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        ) as url:
            rpc = SolanaRpc([url])
            with pytest.raises(RpcRefused, match="slow down"):
                await rpc.latest_blockhash()
            await rpc.aclose()


class TestCheck:
    async def test_endpoints_of_two_chains_are_refused_by_name(self) -> None:
        rpc = SolanaRpc([DevChain().handle, DevChain().handle])
        with pytest.raises(WrongChain, match=r"different chains \(endpoint 1: .*, endpoint 2: "):
            await rpc.check()

    async def test_mainnet_is_not_taken_for_a_chain_of_ones_own(self) -> None:
        rpc = SolanaRpc([scripted({}, genesis=MAINNET)], chain_id="solana:localnet")
        with pytest.raises(WrongChain, match=r"serves solana:mainnet .* says solana:localnet"):
            await rpc.check()

    async def test_a_chain_of_ones_own_is_not_taken_for_mainnet(self) -> None:
        with pytest.raises(WrongChain):
            await SolanaRpc([DevChain().handle], chain_id="solana:mainnet").check()

    async def test_nothing_is_sent_or_believed_before_it(self) -> None:
        sent = []

        def answer(method: str) -> object:
            sent.append(method)
            return MAINNET if method == "getGenesisHash" else 5

        rpc = SolanaRpc([scripted(answer)], chain_id="solana:devnet")
        for question in QUESTIONS[2:7] + QUESTIONS[-1:]:
            with pytest.raises(WrongChain):
                await question(rpc)
        assert set(sent) == {"getGenesisHash"}

    async def test_while_one_endpoint_is_away_nothing_is_known(self) -> None:
        chain = DevChain()
        rpc = SolanaRpc([chain.handle, scripted({}, genesis=chain.genesis_hash)])
        await rpc.check()
        away = SolanaRpc([chain.handle, refusing({"code": 1, "message": "x"})])
        with pytest.raises(RpcRefused):
            await away.check()


class TestFailover:
    async def test_the_second_endpoint_answers_for_the_first(self) -> None:
        chain = DevChain()
        rpc = SolanaRpc([refusing({"code": -32005, "message": "behind"}), chain.handle])
        assert (await rpc.latest_blockhash()).last_valid_block_height > 0

    async def test_the_first_endpoint_is_asked_first(self) -> None:
        rpc = SolanaRpc([DevChain().handle, refusing({"code": -32005, "message": "behind"})])
        assert (await rpc.latest_blockhash()).last_valid_block_height > 0

    async def test_nonsense_of_the_first_is_passed_over(self) -> None:
        rpc = SolanaRpc([scripted({"getLatestBlockhash": "hello"}), DevChain().handle])
        assert (await rpc.latest_blockhash()).last_valid_block_height > 0

    async def test_one_endpoint_may_be_asked_by_itself(self) -> None:
        rpc = SolanaRpc([refusing({"code": -32005, "message": "behind"}), DevChain().handle])
        with pytest.raises(RpcRefused):
            await rpc.accounts([ADDRESS], endpoint=0)
        assert await rpc.accounts([ADDRESS], endpoint=1) == [None]

    async def test_a_node_that_is_behind_the_wanted_slot_is_passed_over(self) -> None:
        market = Market.funded()
        market.chain.advance(50)
        behind, ahead = market.chain.node(), market.chain.node()
        behind.faults.slots_behind = 20
        rpc = SolanaRpc([behind.handle, ahead.handle])
        slot = await SolanaRpc([ahead.handle]).slot("finalized")
        (account,) = await rpc.accounts([market.treasury.pubkey()], min_context_slot=slot)
        assert account is not None
        assert account.slot >= slot
        with pytest.raises(RpcRefused) as refused:
            await rpc.accounts([ADDRESS], min_context_slot=slot, endpoint=0)
        assert refused.value.rpc_code == -32016


class TestTwoEndpoints:
    async def test_the_lower_height_and_slot_count(self) -> None:
        chain = DevChain()
        chain.advance(100)
        behind = chain.node()
        behind.faults.slots_behind = 30
        both = SolanaRpc([chain.handle, behind.handle])
        assert await both.block_height() == await SolanaRpc([behind.handle]).block_height()
        assert await both.slot() == await SolanaRpc([behind.handle]).slot() == await both.slot() < chain.slot

    async def test_a_hidden_status_is_shown_by_the_other(self) -> None:
        market = Market.funded()
        honest, hiding = market.chain.node(), market.chain.node()
        signature = await market.pay(market.treasury, market.wallet().pubkey(), micro_usdc=5)
        market.chain.finalize()
        hiding.faults.hide_status = 10
        (status,) = await SolanaRpc([hiding.handle, honest.handle]).statuses([signature])
        assert status is not None
        assert status.confirmation is Confirmation.PROCESSED
        assert status.is_disputed

    async def test_a_false_finalized_is_not_final(self) -> None:
        market = Market.funded()
        treasury = Treasury(market)
        honest, lying = market.chain.node(), market.chain.node()
        lying.faults.false_finalized = 1
        unsigned = await treasury.payout(treasury.payees([market.wallet()]))
        signature = await treasury.signer.sign(unsigned.message)
        alone = SolanaRpc([lying.handle])
        await alone.broadcast(unsigned.signed(signature))
        market.chain.finalize()
        (believed,) = await alone.statuses([str(signature)])
        assert believed is not None
        assert believed.confirmation is Confirmation.FINALIZED
        both = SolanaRpc([lying.handle, honest.handle])
        (status,) = await both.statuses([str(signature)])
        assert status is not None
        assert (status.confirmation, status.is_disputed) == (Confirmation.PROCESSED, True)
        assert await both.transaction(str(signature)) is None

    async def test_an_account_of_one_is_disputed(self) -> None:
        market = Market.funded()
        late = market.chain.node()
        late.faults.slots_behind = 40
        wallet = market.wallet()
        absent = Keypair().pubkey()
        rpc = SolanaRpc([market.chain.handle, late.handle])
        found = await rpc.presences([wallet.pubkey(), absent, market.mint])
        assert found == [Presence.DISPUTED, Presence.ABSENT, Presence.PRESENT]

    async def test_different_stories_of_one_finalized_transaction_are_refused(self) -> None:
        market = Market.funded()
        wallet = market.wallet()
        signature = await market.pay(market.treasury, wallet.pubkey(), micro_usdc=5)
        market.chain.finalize()

        async def forging(request: dict[str, object]) -> dict[str, object]:
            text = json.dumps(await market.chain.handle(request))
            return json.loads(text.replace('"amount": "5"', '"amount": "5000000"'))

        rpc = SolanaRpc([market.chain.handle, forging])
        with pytest.raises(EndpointsDisagree, match="different stories"):
            await rpc.transaction(signature)

    async def test_what_is_sent_goes_to_both_and_their_answers_are_thrown_away(self) -> None:
        market = Market.funded()
        deaf = market.chain.node()
        deaf.faults.error_before_landing = 1
        treasury = Treasury(market)
        unsigned = await treasury.payout(treasury.payees([market.wallet()]))
        signature = await treasury.signer.sign(unsigned.message)
        await SolanaRpc([deaf.handle, market.chain.handle]).broadcast(unsigned.signed(signature))
        market.chain.finalize()
        (status,) = await treasury.rpc.statuses([str(signature)])
        assert status is not None
        assert status.error is None


def status(confirmation: Confirmation, *, error: object = None, slot: int = 7) -> SignatureStatus:
    return SignatureStatus(confirmation=confirmation, error=read_failure(error), slot=slot)


class TestWeakest:
    FINAL = status(Confirmation.FINALIZED)

    def test_what_nobody_knows_is_absent(self) -> None:
        assert weakest([None, None]) is None

    def test_what_all_call_final_is_final(self) -> None:
        assert weakest([self.FINAL, self.FINAL]) == self.FINAL

    def test_the_slower_endpoint_is_waited_for(self) -> None:
        found = weakest([self.FINAL, status(Confirmation.CONFIRMED)])
        assert found == status(Confirmation.CONFIRMED)

    @pytest.mark.parametrize(
        "other",
        [None, status(Confirmation.FINALIZED, error="X"), status(Confirmation.FINALIZED, slot=8)],
    )
    def test_what_is_told_differently_is_never_final(self, other: SignatureStatus | None) -> None:
        for views in ([self.FINAL, other], [other, self.FINAL]):
            found = weakest(views)
            assert found is not None
            assert found.confirmation is not Confirmation.FINALIZED
            assert found.is_disputed

    def test_an_endpoint_that_has_not_heard_of_it_yet_disputes_nothing(self) -> None:
        found = weakest([status(Confirmation.CONFIRMED), None])
        assert found is not None
        assert not found.is_disputed


class TestBatches:
    async def test_many_are_asked_in_as_many_requests_as_nodes_allow(self) -> None:
        market = Market.funded()
        rpc = SolanaRpc([market.chain.handle])
        signatures = [str(Keypair().sign_message(bytes([n % 256]))) for n in range(300)]
        assert await rpc.statuses(signatures) == [None] * 300
        assert await rpc.presences([Keypair().pubkey() for _ in range(201)]) == [Presence.ABSENT] * 201
        found = await rpc.accounts([Keypair().pubkey() for _ in range(150)] + [market.mint])
        assert found[:-1] == [None] * 150
        assert found[-1] is not None

    async def test_rent_is_asked_once(self) -> None:
        asked = []

        def answer(method: str) -> object:
            asked.append(method)
            return 890_880

        rpc = SolanaRpc([scripted(answer)])
        assert [await rpc.rent_exempt(0), await rpc.rent_exempt(0)] == [890_880, 890_880]
        assert len(asked) == 1

    async def test_the_fee_is_what_three_of_four_slots_took_at_most(self) -> None:
        fees = [{"slot": slot, "prioritizationFee": fee} for slot, fee in enumerate([9, 0, 5, 1])]
        rpc = SolanaRpc([scripted({"getRecentPrioritizationFees": fees})])
        assert await rpc.recent_priority_fee([ADDRESS]) == 9
        assert await SolanaRpc([scripted({"getRecentPrioritizationFees": []})]).recent_priority_fee([]) == 0
