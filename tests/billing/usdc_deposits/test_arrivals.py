"""What a transaction did to our account, from balances alone: pure, and the same however it was done."""

from hypothesis import given
from hypothesis import strategies as st
from solders.keypair import Keypair

from raymart_billing.solana.answers import ChainTransaction, SignatureInfo, TokenBalance
from raymart_billing.usdc_deposits.arrivals import arrival_of, wallets_of
from raymart_billing.usdc_deposits.listing import merged

OURS, MINT, OTHER_MINT = "ours", "usdc", "other"
REFERENCE = str(Keypair.from_seed(bytes(32)).pubkey())
units = st.integers(min_value=0, max_value=10**12)
balances = st.lists(
    st.builds(
        TokenBalance,
        account=st.sampled_from(["a", "b", "c"]),
        mint=st.sampled_from([MINT, OTHER_MINT]),
        owner=st.sampled_from(["wallet-1", "wallet-2", None]),
        before=units,
        after=units,
    ),
    max_size=4,
    unique_by=lambda balance: (balance.account, balance.mint),
)


def transaction(*found: TokenBalance, error: object = None) -> ChainTransaction:
    """One with these token balances."""
    return ChainTransaction(
        signature="5" * 88,
        slot=7,
        block_time=1_790_000_000,
        error=error,  # type: ignore[arg-type]  # anything but None is a failure
        fee_lamports=5_000,
        accounts=(OURS, "a", "b", REFERENCE),
        signers=("a",),
        lamports_before=(0, 0, 0, 0),
        lamports_after=(0, 0, 0, 0),
        token_balances=found,
    )


def ours(before: int, after: int, mint: str = MINT) -> TokenBalance:
    return TokenBalance(account=OURS, mint=mint, owner="treasury", before=before, after=after)


class TestDelta:
    @given(units, units, balances)
    def test_it_is_what_our_account_holds_more_whatever_else_moved(
        self, before: int, after: int, others: list[TokenBalance]
    ):
        found = arrival_of(
            transaction(*others, ours(before, after), ours(1, 9, OTHER_MINT)),
            account=OURS,
            mint=MINT,
            memo=None,
        )
        assert found.delta_micro_usdc == after - before
        paying = [each for each in others if each.mint == MINT and each.after < each.before]
        assert sum(source.amount for source in found.sources) == sum(
            each.before - each.after for each in paying
        )
        assert list(found.sources) == sorted(found.sources, key=lambda one: (-one.amount, one.account))

    def test_a_failed_transaction_moved_nothing_whatever_it_says(self):
        found = arrival_of(
            transaction(ours(0, 5), error={"InstructionError": [0, "x"]}), account=OURS, mint=MINT, memo=None
        )
        assert (found.failed, found.delta_micro_usdc, found.sources) == (True, 0, ())


class TestMemo:
    def test_lengths_are_taken_away_and_references_found(self):
        memo = f"[9] thanks ; ; [52] raymart:{REFERENCE}"
        found = arrival_of(transaction(), account=OURS, mint=MINT, memo=memo)
        assert found.memo == f"thanks ;  raymart:{REFERENCE}"
        assert found.memo_references == (REFERENCE,)

    def test_what_only_looks_like_one_is_none(self):
        for memo in (f"raymart:{REFERENCE}z" + "z" * 44, "raymart:0OIl", REFERENCE, "raymart:"):
            assert arrival_of(transaction(), account=OURS, mint=MINT, memo=memo).memo_references == ()

    @given(st.text(max_size=1_000))
    def test_any_memo_can_be_kept(self, memo: str):
        kept = arrival_of(transaction(), account=OURS, mint=MINT, memo=memo).memo
        assert kept is None or (len(kept) <= 500 and kept.isprintable() and "\x00" not in kept)


class TestWallets:
    def test_each_payer_once_the_largest_first(self):
        sources = [{"wallet": "b"}, {"wallet": None}, {"wallet": "a"}, {"wallet": "b"}]
        assert wallets_of(sources) == ["b", "a"]


def info(signature: str, slot: int) -> SignatureInfo:
    return SignatureInfo(signature=signature, slot=slot, error=None, memo=None, block_time=None)


class TestMerged:
    def test_lists_that_each_hide_something_give_everything_in_order(self):
        first = [info("a", 1), info("c", 3), info("d", 3)]
        second = [info("a", 1), info("b", 2), info("d", 3), info("e", 4)]
        assert [each.signature for each in merged([first, second])] == ["a", "b", "c", "d", "e"]
