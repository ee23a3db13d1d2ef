"""What we send, on the development chain with the real programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from raymart_billing.solana import (
    PAYEES_MAX,
    Cause,
    Explanation,
    Item,
    Limits,
    Payee,
    Source,
    TransactionTooLarge,
    build_burn,
    build_payout,
    build_reclaim,
    explain,
    items_layout,
    payout_layout,
)
from raymart_billing.solana.addresses import token_account
from raymart_billing.solana.marker import marker_of
from raymart_billing.solana.transactions import AMOUNT_MAX, BYTES_MAX, MEMO_BYTES_MAX, RECLAIMS_MAX, Version
from raymart_core.ids import new_id
from support.dev_chain import Market
from support.treasury import LIMITS, MARKER_KEY, Treasury

BOTH = pytest.mark.parametrize("version", [1, 0])
BLOCKHASH = "4uQeVj5tqViQh7yWWGStvkEG1Zmhx6uasJtWCJziofM"


async def landed_error(treasury: Treasury, wallets: list[Keypair], **changes: int) -> Explanation:
    status = await treasury.land(await treasury.payout(treasury.payees(wallets, **changes)))
    assert status.error is not None
    return explain(status.error, payout_layout(len(wallets), version=treasury.version))


@BOTH
class TestBuildPayout:
    async def test_as_many_payees_as_fit_are_paid_at_once(self, version: Version) -> None:
        market = Market.funded()
        treasury = Treasury(market, version=version)
        wallets = market.wallets(PAYEES_MAX[version], lamports=0)
        before = market.lamports(treasury.address)
        status = await treasury.land(
            await treasury.payout(treasury.payees(wallets, micro_usdc=7), memo="m" * MEMO_BYTES_MAX)
        )
        assert status.error is None
        assert [market.balance(wallet.pubkey()) for wallet in wallets] == [7] * len(wallets)
        rent = await treasury.rpc.rent_exempt(0)
        assert before - market.lamports(treasury.address) == 5_000 + rent

    def test_one_more_is_refused_before_anything_is_signed(self, version: Version) -> None:
        with pytest.raises(TransactionTooLarge, match=f"1 to {PAYEES_MAX[version]} fit"):
            built(payees=PAYEES_MAX[version] + 1, version=version)

    def test_nobody_cannot_be_paid(self, version: Version) -> None:
        with pytest.raises(TransactionTooLarge):
            built(payees=0, version=version)

    def test_a_longer_memo_is_refused(self, version: Version) -> None:
        with pytest.raises(TransactionTooLarge, match="memo of 41 bytes"):
            built(payees=1, version=version, memo="m" * (MEMO_BYTES_MAX + 1))

    async def test_its_second_landing_pays_nobody(self, version: Version) -> None:
        market = Market.funded()
        treasury = Treasury(market, version=version)
        wallets = list(market.wallets(3))
        marker = treasury.marker()
        first = await treasury.land(await treasury.payout(treasury.payees(wallets), marker=marker))
        second = await treasury.land(
            await treasury.payout(
                treasury.payees(wallets),
                marker=marker,
                limits=Limits(compute_units=30_000, priority_fee_lamports=5),
            )
        )
        assert first.error is None
        assert second.error is not None
        assert explain(second.error, payout_layout(3, version=version)) == Explanation(
            cause=Cause.MARKER_USED, item=None
        )
        assert [market.balance(wallet.pubkey()) for wallet in wallets] == [5, 5, 5]

    async def test_a_frozen_account_is_named(self, version: Version) -> None:
        market = Market.funded()
        wallets = list(market.wallets(4))
        market.chain.faucet.freeze(market.tokens_of(wallets[2].pubkey()), mint=market.mint)
        explained = await landed_error(Treasury(market, version=version), wallets)
        assert explained == Explanation(cause=Cause.ACCOUNT_FROZEN, item=2)
        assert [market.balance(wallet.pubkey()) for wallet in wallets] == [0] * 4

    async def test_a_missing_account_is_named(self, version: Version) -> None:
        market = Market.funded()
        wallets = [*market.wallets(2), market.wallet(has_token_account=False)]
        explained = await landed_error(Treasury(market, version=version), wallets)
        assert explained == Explanation(cause=Cause.ACCOUNT_MISSING, item=2)

    async def test_an_account_of_another_token_is_named(self, version: Version) -> None:
        market = Market.funded()
        treasury = Treasury(market, version=version)
        other = market.chain.faucet.create_mint("other")
        wallet = market.wallet()
        elsewhere = market.chain.faucet.open_token_account(wallet.pubkey(), mint=other)
        market.chain.finalize()
        payees = [*treasury.payees([wallet]), Payee(token_account=elsewhere, amount_micro_usdc=5)]
        status = await treasury.land(await treasury.payout(payees))
        assert status.error is not None
        assert explain(status.error, payout_layout(2, version=version)) == Explanation(
            cause=Cause.WRONG_MINT, item=1
        )

    async def test_an_empty_treasury_is_named_and_no_payee_blamed_for_it_alone(
        self, version: Version
    ) -> None:
        market = Market.funded(micro_usdc=9)
        wallets = list(market.wallets(3))
        explained = await landed_error(Treasury(market, version=version), wallets)
        assert explained == Explanation(cause=Cause.TREASURY_SHORT_OF_USDC, item=1)

    async def test_a_treasury_without_sol_for_the_marker_is_named(self, version: Version) -> None:
        market = Market.funded(lamports=1_000_000)
        wallets = list(market.wallets(1))
        explained = await landed_error(Treasury(market, version=version), wallets)
        assert explained == Explanation(cause=Cause.TREASURY_SHORT_OF_SOL, item=None)


@given(
    amounts=st.lists(st.integers(1, AMOUNT_MAX), min_size=1, max_size=57),
    memo=st.text(max_size=MEMO_BYTES_MAX),
    fee=st.integers(0, 10**8),
    units=st.integers(1, 1_400_000),
    version=st.sampled_from([0, 1]),
)
def test_whatever_is_paid_fits_its_format(
    amounts: list[int], memo: str, fee: int, units: int, version: Version
) -> None:
    memo = memo.encode()[:MEMO_BYTES_MAX].decode(errors="ignore")
    limits = Limits(compute_units=units, priority_fee_lamports=fee)
    transaction = built(amounts=amounts[: PAYEES_MAX[version]], memo=memo, limits=limits, version=version)
    assert len(transaction.unsigned()) <= BYTES_MAX[version]


class TestSize:
    """By themselves the numbers of payees and markers would let more than the format carries through."""

    def test_more_bytes_than_version_0_carries_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(PAYEES_MAX, 0, 20)
        with pytest.raises(TransactionTooLarge, match="version 0 carries 1232"):
            built(payees=15, version=0, memo="m" * MEMO_BYTES_MAX)

    def test_more_bytes_than_version_1_carries_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(RECLAIMS_MAX, 1, 40)
        with pytest.raises(TransactionTooLarge, match="version 1 carries 4096"):
            reclaim(35, version=1)


class TestBuildTokenAccounts:
    @BOTH
    async def test_ten_at_once_and_those_that_exist_are_left_alone(self, version: Version) -> None:
        market = Market.funded()
        treasury = Treasury(market, version=version)
        wallets = [*market.wallets(9, has_token_account=False, lamports=0), market.wallet(micro_usdc=3)]
        status = await treasury.land(await treasury.token_accounts([wallet.pubkey() for wallet in wallets]))
        assert status.error is None
        found = await treasury.rpc.accounts([market.tokens_of(wallet.pubkey()) for wallet in wallets])
        assert all(account is not None for account in found)
        assert market.balance(wallets[-1].pubkey()) == 3

    async def test_eleven_are_refused(self) -> None:
        with pytest.raises(TransactionTooLarge, match="1 to 10 fit"):
            await Treasury(Market.funded()).token_accounts([Keypair().pubkey() for _ in range(11)])

    @BOTH
    async def test_a_treasury_without_sol_for_their_rent_is_named(self, version: Version) -> None:
        market = Market.funded(lamports=2_500_000)
        treasury = Treasury(market, version=version)
        owners = [Keypair().pubkey() for _ in range(2)]
        status = await treasury.land(await treasury.token_accounts(owners))
        assert status.error is not None
        layout = items_layout(2, Item.TOKEN_ACCOUNT, version=version)
        assert explain(status.error, layout) == Explanation(cause=Cause.TREASURY_SHORT_OF_SOL, item=1)


@BOTH
class TestBuildBurn:
    async def test_no_payout_of_its_part_lands_after_it(self, version: Version) -> None:
        market = Market.funded()
        treasury = Treasury(market, version=version)
        marker = treasury.marker()
        payout = await treasury.payout(treasury.payees([market.wallet()]), marker=marker)
        burn = build_burn(
            treasury.address,
            marker=marker,
            marker_rent_lamports=await treasury.rpc.rent_exempt(0),
            memo="burn",
            blockhash=(await treasury.rpc.latest_blockhash()).hash,
            limits=LIMITS,
            version=version,
        )
        assert (await treasury.land(burn)).error is None
        status = await treasury.land(payout)
        assert status.error is not None
        assert explain(status.error, payout_layout(1, version=version)).cause is Cause.MARKER_USED


@BOTH
class TestBuildReclaim:
    async def test_as_many_markers_as_fit_give_their_lamports_back(self, version: Version) -> None:
        market = Market.funded()
        treasury = Treasury(market, version=version)
        wallet = market.wallet()
        markers = [treasury.marker() for _ in range(RECLAIMS_MAX[version])]
        for marker in markers:
            assert (
                await treasury.land(await treasury.payout(treasury.payees([wallet]), marker=marker))
            ).error is None
        rent = await treasury.rpc.rent_exempt(0)
        treasury.books.free = {str(marker.address) for marker in markers}
        before = market.lamports(treasury.address)
        status = await treasury.land(
            build_reclaim(
                treasury.address,
                [(marker, rent) for marker in markers],
                blockhash=(await treasury.rpc.latest_blockhash()).hash,
                limits=LIMITS,
                version=version,
            )
        )
        assert status.error is None
        assert market.lamports(treasury.address) - before == rent * len(markers) - 5_000

    def test_one_more_does_not_fit(self, version: Version) -> None:
        with pytest.raises(TransactionTooLarge):
            reclaim(RECLAIMS_MAX[version] + 1, version=version)


def built(
    *,
    payees: int = 1,
    amounts: list[int] | None = None,
    version: Version,
    memo: str = "test",
    limits: Limits = LIMITS,
):
    treasury, mint = Pubkey.new_unique(), Pubkey.new_unique()
    amounts = [1] * payees if amounts is None else amounts
    return build_payout(
        Source(treasury=treasury, token_account=token_account(treasury, mint), mint=mint),
        [Payee(token_account=Pubkey.new_unique(), amount_micro_usdc=amount) for amount in amounts],
        marker=marker_of(MARKER_KEY, treasury, new_id(), 0),
        marker_rent_lamports=890_880,
        memo=memo,
        blockhash=BLOCKHASH,
        limits=limits,
        version=version,
    )


def reclaim(count: int, *, version: Version):
    treasury = Pubkey.new_unique()
    markers = [(marker_of(MARKER_KEY, treasury, new_id(), 0), 890_880) for _ in range(count)]
    return build_reclaim(treasury, markers, blockhash=BLOCKHASH, limits=LIMITS, version=version)
