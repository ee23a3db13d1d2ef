"""What lands, what does not, and when one may say so."""

import base64

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import to_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from spl.token.constants import TOKEN_PROGRAM_ID

from raymart_billing.solana.devchain import DevChain
from support.dev_chain import SOL, USDC, Market, RpcRefusal, ask


@pytest.fixture
def market():
    return Market.funded()


async def status_of(market, signature, **options):
    answer = await ask(market.chain, "getSignatureStatuses", [signature], options)
    return answer["value"][0]


class TestLanding:
    async def test_a_payment_is_processed_then_confirmed_then_final(self, market):
        payee = market.wallet()
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=5 * USDC)
        seen = [(await status_of(market, signature))["confirmationStatus"]]
        market.chain.advance(1)
        seen.append((await status_of(market, signature))["confirmationStatus"])
        market.chain.advance(30)
        seen.append((await status_of(market, signature))["confirmationStatus"])
        market.chain.advance(2)
        seen.append((await status_of(market, signature))["confirmationStatus"])
        assert seen == ["processed", "confirmed", "confirmed", "finalized"]
        assert market.balance(payee.pubkey()) == 5 * USDC

    async def test_accounts_are_read_as_of_the_commitment_asked_for(self, market):
        payee = market.wallet(micro_usdc=USDC)
        account = str(market.tokens_of(payee.pubkey()))

        async def amounts():
            return [
                (await ask(market.chain, "getTokenAccountBalance", account, {"commitment": level}))["value"][
                    "amount"
                ]
                for level in ("processed", "confirmed", "finalized")
            ]

        await market.pay(market.treasury, payee.pubkey(), micro_usdc=USDC)
        at_once = await amounts()
        market.chain.advance(1)
        confirmed = await amounts()
        await market.pay(market.treasury, payee.pubkey(), micro_usdc=USDC)
        market.chain.finalize()
        assert at_once == ["2000000", "1000000", "1000000"]
        assert confirmed == ["2000000", "2000000", "1000000"]
        assert await amounts() == ["3000000"] * 3

    async def test_the_same_bytes_land_once(self, market):
        payee = market.wallet()
        raw = market.v0(market.treasury, market.transfer(market.treasury, payee.pubkey(), micro_usdc=USDC))
        assert await market.send(raw) == await market.send(raw)
        assert market.balance(payee.pubkey()) == USDC
        with pytest.raises(RpcRefusal, match="already been processed"):
            await market.send(raw, skips_preflight=False)

    async def test_a_failed_transaction_lands_with_its_error_and_costs_its_fee(self, market):
        poor = market.wallet()
        before = market.lamports(poor.pubkey())
        signature = await market.pay(poor, market.treasury.pubkey(), micro_usdc=USDC)
        market.chain.finalize()
        assert (await status_of(market, signature))["err"] == {"InstructionError": [0, {"Custom": 1}]}
        assert before - market.lamports(poor.pubkey()) == 5_000

    async def test_who_cannot_pay_the_fee_lands_nothing(self, market):
        broke = market.wallet(lamports=0, micro_usdc=USDC)
        signature = await market.pay(broke, market.treasury.pubkey(), micro_usdc=1)
        assert await status_of(market, signature) is None
        with pytest.raises(RpcRefusal, match="AccountNotFound"):
            await market.send(
                market.v0(broke, market.transfer(broke, market.treasury.pubkey(), micro_usdc=2)),
                skips_preflight=False,
            )

    async def test_a_foreign_signature_is_refused_by_preflight_and_never_lands_without(self, market):
        payee = market.wallet()
        raw = bytearray(
            market.v0(market.treasury, market.transfer(market.treasury, payee.pubkey(), micro_usdc=USDC))
        )
        raw[5] ^= 1
        with pytest.raises(RpcRefusal) as refused:
            await market.send(bytes(raw), skips_preflight=False)
        assert refused.value.code == -32003
        signature = await market.send(bytes(raw))
        assert await status_of(market, signature) is None
        assert market.balance(payee.pubkey()) == 0


class TestExpiry:
    async def test_a_blockhash_lets_land_for_150_blocks_and_no_longer(self, market):
        payee = market.wallet()
        answer = (await ask(market.chain, "getLatestBlockhash", {"commitment": "confirmed"}))["value"]
        blockhash, last = Hash.from_string(answer["blockhash"]), answer["lastValidBlockHeight"]
        while market.chain.block_height < last:
            market.chain.advance(1)
        early, late = (
            market.v0(
                market.treasury,
                market.transfer(market.treasury, payee.pubkey(), micro_usdc=amount),
                blockhash=blockhash,
            )
            for amount in (1, 2)
        )
        await market.send(early)
        assert market.balance(payee.pubkey()) == 1
        market.chain.advance(1)
        assert (await ask(market.chain, "isBlockhashValid", str(blockhash)))["value"] is True, "at finalized"
        assert (await ask(market.chain, "isBlockhashValid", str(blockhash), {"commitment": "processed"}))[
            "value"
        ] is False
        with pytest.raises(RpcRefusal, match="Blockhash not found"):
            await market.send(late, skips_preflight=False)
        await market.send(late)
        assert market.balance(payee.pubkey()) == 1

    async def test_a_hash_of_no_block_never_lands(self, market):
        raw = market.v0(
            market.treasury,
            market.transfer(market.treasury, market.treasury.pubkey(), micro_usdc=1),
            blockhash=Hash.new_unique(),
        )
        assert await status_of(market, await market.send(raw)) is None

    async def test_slots_are_ahead_of_block_heights_and_ever_further(self, market):
        ahead = market.chain.slot - market.chain.block_height
        market.chain.advance(100)
        assert market.chain.slot - market.chain.block_height == ahead + 5
        assert (
            await ask(market.chain, "getBlockHeight", {"commitment": "processed"})
            == market.chain.block_height
        )


class TestSizes:
    async def test_v0_stops_at_1232_bytes_and_v1_at_4096(self, market):
        payees = market.wallets(40, lamports=0, has_token_account=False)

        def gifts(count):
            return [
                transfer(
                    TransferParams(
                        from_pubkey=market.treasury.pubkey(), to_pubkey=payee.pubkey(), lamports=SOL
                    )
                )
                for payee in payees[:count]
            ]

        fits = next(
            count for count in range(40, 0, -1) if len(market.v0(market.treasury, *gifts(count))) <= 1_232
        )
        await market.send(market.v0(market.treasury, *gifts(fits)))
        assert market.lamports(payees[0].pubkey()) == SOL
        too_large = market.v0(market.treasury, *gifts(fits + 1))
        with pytest.raises(RpcRefusal, match=rf"too large: {len(too_large)} bytes \(max: 1232 bytes\)"):
            await market.send(too_large)
        await market.send(market.v1(market.treasury, *gifts(40)))
        assert market.lamports(payees[39].pubkey()) == SOL

    async def test_v1_above_4096_bytes_is_refused(self, market):
        with pytest.raises(RpcRefusal, match="max: 4096 bytes"):
            await market.send(b"\x81" + bytes(4_096))


class TestVersionOne:
    async def test_the_priority_fee_is_charged_as_lamports_in_all(self, market):
        before = market.lamports(market.treasury.pubkey())
        transfer_nothing = market.transfer(market.treasury, market.treasury.pubkey(), micro_usdc=0)
        signature = await market.send(
            market.v1(market.treasury, transfer_nothing, units=5_000, priority_fee=1_234)
        )
        market.chain.finalize()
        assert before - market.lamports(market.treasury.pubkey()) == 6_234
        found = await ask(market.chain, "getTransaction", signature, {"maxSupportedTransactionVersion": 1})
        assert found["meta"]["fee"] == 6_234

    async def test_a_priority_fee_that_cannot_be_paid_keeps_it_out(self, market):
        poor = market.wallet(lamports=SOL)
        raw = market.v1(poor, market.transfer(poor, poor.pubkey(), micro_usdc=0), priority_fee=SOL)
        assert await status_of(market, await market.send(raw)) is None
        assert market.lamports(poor.pubkey()) == SOL

    async def test_a_transaction_beyond_its_unit_limit_fails_and_pays(self, market):
        payee = market.wallet()
        before = market.lamports(market.treasury.pubkey())
        paying = market.transfer(market.treasury, payee.pubkey(), micro_usdc=USDC)
        signature = await market.send(market.v1(market.treasury, paying, units=100, priority_fee=7))
        assert (await status_of(market, signature))["err"] == {
            "InstructionError": [0, "ComputationalBudgetExceeded"]
        }
        assert before - market.lamports(market.treasury.pubkey()) == 5_007
        assert market.balance(payee.pubkey()) == 0

    @pytest.mark.parametrize("loaded_bytes", [None, 0, 10_000])
    async def test_what_may_not_load_its_accounts_fails_and_pays_everything(self, market, loaded_bytes):
        payee = market.wallet()
        before = market.lamports(market.treasury.pubkey())
        paying = market.transfer(market.treasury, payee.pubkey(), micro_usdc=USDC)
        raw = market.v1(market.treasury, paying, priority_fee=77, loaded_bytes=loaded_bytes)
        with pytest.raises(RpcRefusal, match="MaxLoadedAccountsDataSizeExceeded"):
            await market.send(raw, skips_preflight=False)
        signature = await market.send(raw)
        assert (await status_of(market, signature))["err"] == "MaxLoadedAccountsDataSizeExceeded"
        assert before - market.lamports(market.treasury.pubkey()) == 5_077
        assert market.balance(payee.pubkey()) == 0

    async def test_a_limit_that_is_not_set_is_none_of_the_units(self, market):
        paying = market.transfer(market.treasury, market.treasury.pubkey(), micro_usdc=0)
        signature = await market.send(market.v1(market.treasury, paying, units=None))
        assert (await status_of(market, signature))["err"] == {
            "InstructionError": [0, "ComputationalBudgetExceeded"]
        }

    async def test_what_counts_as_loaded_is_each_account_and_the_code_of_its_programs(self, market):
        """SIMD-0186: data and 64 bytes each, an absent account nothing; here known to the byte."""
        payee = market.wallet()
        paying = market.transfer(market.treasury, payee.pubkey(), micro_usdc=1)
        machine = market.chain.chain.machine
        program = machine._svm.get_account(TOKEN_PROGRAM_ID)
        code = machine._svm.get_account(Pubkey.from_bytes(bytes(program.data)[4:36]))
        accounts = [0, 165, 165, 82, len(program.data), len(code.data)]
        exact = sum(accounts) + 64 * len(accounts)
        short = await market.send(market.v1(market.treasury, paying, loaded_bytes=exact - 1))
        assert (await status_of(market, short))["err"] == "MaxLoadedAccountsDataSizeExceeded"
        enough = await market.send(market.v1(market.treasury, paying, loaded_bytes=exact))
        assert (await status_of(market, enough))["err"] is None

    async def test_readers_that_do_not_know_the_version_are_told(self, market):
        paying = market.transfer(market.treasury, market.treasury.pubkey(), micro_usdc=1)
        signature = await market.send(market.v1(market.treasury, paying))
        market.chain.finalize()
        for options in ({}, {"maxSupportedTransactionVersion": 0}):
            with pytest.raises(RpcRefusal, match=r"Transaction version \(1\) is not supported") as refused:
                await ask(market.chain, "getTransaction", signature, options)
            assert refused.value.code == -32015


class TestFees:
    async def test_what_is_told_beforehand_is_what_is_charged_and_shown(self, market):
        payee = market.wallet()
        treasury = market.treasury.pubkey()
        gift = transfer(TransferParams(from_pubkey=treasury, to_pubkey=payee.pubkey(), lamports=1_000_000))
        paying = market.transfer(market.treasury, payee.pubkey(), micro_usdc=1)
        price, limit = set_compute_unit_price(1_000_000), set_compute_unit_limit(12_345)
        odd = [set_compute_unit_price(333), set_compute_unit_limit(1_000)]
        found = []
        for instructions in (
            [gift],
            [price, gift],
            [price, paying],
            [price, limit, paying, gift],
            [*odd, paying],
        ):
            raw = market.v0(market.treasury, *instructions)
            message = bytes(to_bytes_versioned(VersionedTransaction.from_bytes(raw).message))
            told = await ask(
                market.chain,
                "getFeeForMessage",
                base64.b64encode(message).decode(),
                {"commitment": "processed"},
            )
            before = market.lamports(treasury) - (1_000_000 if gift in instructions else 0)
            signature = await market.send(raw)
            charged = before - market.lamports(treasury)
            shown = market.chain.chain.history.get(signature).execution.fee_lamports
            assert told["value"] == charged == shown
            found.append(charged)
            market.chain.advance(1)
        # A built-in program may use 3,000 units, another 200,000, where no limit is set; fractions are rounded up.
        assert found == [5_000, 5_000 + 6_000, 5_000 + 203_000, 5_000 + 12_345, 5_001]


class TestFork:
    async def test_a_fork_undoes_what_it_takes_and_its_hashes_are_no_hashes_any_more(self, market):
        payee = market.wallet()
        await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.advance(5)
        on_the_fork = market.v0(
            market.treasury, market.transfer(market.treasury, payee.pubkey(), micro_usdc=2)
        )
        signature = await market.send(on_the_fork)
        assert [landed.signature for landed in market.chain.rollback(4)] == [signature]
        assert market.balance(payee.pubkey()) == 1
        assert await status_of(market, signature, searchTransactionHistory=True) is None
        await market.send(on_the_fork)
        assert market.balance(payee.pubkey()) == 1, "its blockhash was forked away"

    async def test_what_was_sent_before_the_fork_lands_again_when_its_hash_is_older(self, market):
        payee = market.wallet()
        raw = market.v0(market.treasury, market.transfer(market.treasury, payee.pubkey(), micro_usdc=2))
        market.chain.advance(5)
        await market.send(raw)
        market.chain.rollback(2)
        assert market.balance(payee.pubkey()) == 0
        await market.send(raw)
        assert market.balance(payee.pubkey()) == 2

    async def test_what_is_final_cannot_be_undone(self, market):
        market.chain.advance(40)
        with pytest.raises(ValueError, match="is final; at most 32 slots"):
            market.chain.rollback(34)

    async def test_slow_finality_lets_a_deeper_fork_happen(self, market):
        payee = market.wallet()
        market.chain.finality_slots = 200
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.advance(150)
        assert (await status_of(market, signature))["confirmationStatus"] == "confirmed"
        market.chain.rollback(152)
        assert market.balance(payee.pubkey()) == 0


class TestFaults:
    async def test_dropped_is_acknowledged_and_never_lands(self, market):
        market.chain.faults.drop = 1
        payee = market.wallet()
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.advance(300)
        assert await status_of(market, signature, searchTransactionHistory=True) is None
        assert market.chain.faults.drop == 0

    @pytest.mark.parametrize(("fault", "landed"), [("error_before_landing", 0), ("error_after_landing", 1)])
    async def test_an_error_says_nothing_about_the_landing(self, market, fault, landed):
        payee = market.wallet()
        setattr(market.chain.faults, fault, 1)
        with pytest.raises(RpcRefusal):
            await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        assert market.balance(payee.pubkey()) == landed

    @pytest.mark.parametrize(("fault", "landed"), [("unavailable", 0), ("unavailable_after", 1)])
    async def test_a_broken_connection_says_nothing_either(self, market, fault, landed):
        payee = market.wallet()
        setattr(market.chain.faults, fault, 1)
        with pytest.raises(ConnectionError):
            await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        assert market.balance(payee.pubkey()) == landed

    async def test_a_hidden_status_is_null_for_what_has_landed_while_the_accounts_are_true(self, market):
        payee = market.wallet()
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.faults.hide_status = 1
        assert await status_of(market, signature, searchTransactionHistory=True) is None
        assert await status_of(market, signature) is not None
        assert market.balance(payee.pubkey()) == 1

    async def test_hidden_history_hides_all_but_accounts(self, market):
        payee = market.wallet()
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.finalize()
        market.chain.faults.is_history_hidden = True
        address = str(market.tokens_of(payee.pubkey()))
        assert await status_of(market, signature, searchTransactionHistory=True) is None
        assert await ask(market.chain, "getSignaturesForAddress", address) == []
        assert await ask(market.chain, "getTransaction", signature) is None
        assert (await ask(market.chain, "getTokenAccountBalance", address))["value"]["amount"] == "1"

    async def test_a_late_landing_is_unknown_until_it_happens(self, market):
        payee = market.wallet()
        market.chain.faults.landing_delay_slots = 100
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.advance(99)
        assert await status_of(market, signature) is None
        market.chain.advance(3)
        assert (await status_of(market, signature))["confirmationStatus"] == "confirmed"

    async def test_what_is_late_beyond_its_blockhash_never_lands(self, market):
        payee = market.wallet()
        market.chain.faults.landing_delay_slots = 170
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.advance(400)
        assert await status_of(market, signature, searchTransactionHistory=True) is None

    async def test_falsely_final_is_shown_by_one_node_and_known_to_no_other(self, market):
        payee = market.wallet(has_token_account=False)
        liar, honest = market.chain.node(), market.chain.node()
        liar.faults.false_finalized = 1
        raw = market.v0(
            market.treasury,
            transfer(
                TransferParams(from_pubkey=market.treasury.pubkey(), to_pubkey=payee.pubkey(), lamports=SOL)
            ),
        )
        signature = await market.send(raw, node=liar)
        options = {"searchTransactionHistory": True}
        said = [
            (await ask(node, "getSignatureStatuses", [signature], options))["value"][0]
            for node in (liar, honest)
        ]
        assert said[0]["confirmationStatus"] == "finalized"
        assert said[0]["err"] is None
        assert said[1] is None
        shown = await ask(liar, "getTransaction", signature, {"maxSupportedTransactionVersion": 1})
        assert shown["meta"]["err"] is None
        assert await ask(honest, "getTransaction", signature, {"maxSupportedTransactionVersion": 1}) is None

    async def test_early_finality_is_taken_back_by_a_fork(self, market):
        payee = market.wallet()
        market.chain.faults.is_finality_early = True
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.advance(1)
        assert (await status_of(market, signature))["confirmationStatus"] == "finalized"
        market.chain.rollback(3)
        assert await status_of(market, signature, searchTransactionHistory=True) is None

    async def test_a_node_that_is_behind_says_so_only_where_it_is_asked_to(self, market):
        payee = market.wallet()
        slot = market.chain.advance(40)
        await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        market.chain.finalize()
        market.chain.faults.slots_behind = 35
        address = str(market.tokens_of(payee.pubkey()))
        assert (await ask(market.chain, "getTokenAccountBalance", address))["value"]["amount"] == "0"
        with pytest.raises(RpcRefusal, match="Minimum context slot") as refused:
            await ask(market.chain, "getTokenAccountBalance", address, {"minContextSlot": slot})
        assert refused.value.code == -32016


class TestFaucet:
    def test_chains_differ_by_their_genesis_hash_and_a_seed_makes_them_the_same(self):
        one, other = DevChain(), DevChain()
        assert one.genesis_hash != other.genesis_hash
        twins = [DevChain(seed=b"a" * 32) for _ in range(2)]
        assert twins[0].genesis_hash == twins[1].genesis_hash
        assert twins[0].faucet.create_mint() == twins[1].faucet.create_mint()

    async def test_airdrops_and_tokens_come_by_request_too(self, market):
        wallet = Keypair().pubkey()
        await ask(market.chain, "requestAirdrop", str(wallet), 5 * SOL)
        mint = await ask(market.chain, "devchain_usdcMint")
        await ask(market.chain, "devchain_giveTokens", str(wallet), 7 * USDC)
        assert mint == str(market.mint)
        assert (market.lamports(wallet), market.balance(wallet)) == (5 * SOL, 7 * USDC)

    async def test_frozen_tokens_do_not_move(self, market):
        payee = market.wallet()
        market.chain.faucet.freeze(market.tokens_of(payee.pubkey()), mint=market.mint)
        signature = await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        assert (await status_of(market, signature))["err"] == {"InstructionError": [0, {"Custom": 17}]}
        market.chain.faucet.thaw(market.tokens_of(payee.pubkey()), mint=market.mint)
        await market.pay(market.treasury, payee.pubkey(), micro_usdc=2)
        assert market.balance(payee.pubkey()) == 2
