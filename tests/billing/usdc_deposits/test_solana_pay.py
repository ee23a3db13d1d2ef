"""Promise: what we ask for is what a wallet reads, and what is not exactly of the specification's form is refused."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from raymart_billing.solana.addresses import token_account
from raymart_billing.usdc_deposits.solana_pay import PaymentRequest, parse, user_units
from raymart_core.errors import InvalidRequest
from raymart_core.money import Asset, Money

WALLET = Keypair.from_seed(bytes(32)).pubkey()
MINT = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
REFERENCE = Keypair.from_seed(bytes([1] * 32)).pubkey()
BASE = f"solana:{WALLET}?spl-token={MINT}"

amounts = st.integers(min_value=0, max_value=10**15).map(lambda units: Money(units, Asset.USDC))
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
keys = st.binary(min_size=32, max_size=32).map(Pubkey)
requests = st.builds(
    PaymentRequest,
    recipient=st.just(WALLET),
    mint=keys,
    amount=st.none() | amounts,
    references=st.lists(keys, max_size=3).map(tuple),
    label=st.none() | texts,
    message=st.none() | texts,
    memo=st.none() | texts,
)


class TestRoundTrip:
    @given(requests)
    def test_a_wallet_reads_what_was_asked(self, request_: PaymentRequest):
        read = parse(request_.url())
        assert read == request_
        assert read.url() == request_.url()

    @given(amounts)
    @example(Money(1, Asset.USDC))
    @example(Money(0, Asset.USDC))
    @example(Money(10**15, Asset.USDC))
    def test_amounts_are_exact_and_without_an_exponent(self, amount: Money):
        text = user_units(amount)
        assert set(text) <= set("0123456789.")
        assert Money.parse(text, Asset.USDC) == amount
        assert parse(f"{BASE}&amount={text}").amount == amount

    def test_the_specifications_order_and_encoding(self):
        url = PaymentRequest(
            recipient=WALLET,
            mint=MINT,
            amount=Money(25_500_000, Asset.USDC),
            references=(REFERENCE,),
            label="Raymart",
            message="Top-up & more",
            memo="raymart:7",
        ).url()
        assert url == (
            f"solana:{WALLET}?amount=25.5&spl-token={MINT}&reference={REFERENCE}"
            "&label=Raymart&message=Top-up%20%26%20more&memo=raymart%3A7"
        )


class TestRefused:
    @pytest.mark.parametrize(
        "amount",
        [
            "1e3",
            "1E-3",
            "-1",
            "+1",
            ".5",
            "1.",
            "1.0000001",
            "01",
            "1,5",
            "NaN",
            "",
            "1 ",
            "٣",
            "9" * 14,
        ],
    )
    def test_amounts_of_another_form(self, amount: str):
        with pytest.raises(InvalidRequest):
            parse(f"{BASE}&amount={amount}")

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "solana:",
            f"solana:{WALLET}",
            f"solana:{WALLET}?",
            f"SOLANA:{WALLET}?spl-token={MINT}",
            f"ethereum:{WALLET}?spl-token={MINT}",
            "solana:https%3A%2F%2Fexample.com?spl-token=x",
            f"solana:{WALLET}?amount=1",
            f"solana:{token_account(WALLET, MINT)}?spl-token={MINT}",
            f"solana:{WALLET}1?spl-token={MINT}",
            f"solana://{WALLET}?spl-token={MINT}",
            f"{BASE}&spl-token={MINT}",
            f"{BASE}&amount=1&amount=2",
            f"{BASE}&reference=0OIl",
            f"{BASE}&reference=",
            f"{BASE}&fee=1",
            f"{BASE}&label=a+b",
            f"{BASE}&label=%FF",
            f"{BASE}&label=%2",
            f"{BASE}&label=",
            f"{BASE}&",
            f"{BASE}&memo={'a' * 201}",
            f"{BASE}{''.join(f'&reference={REFERENCE}' for _ in range(9))}",
            f"{BASE}&label={'a' * 1_000}",
        ],
    )
    def test_urls_of_another_form(self, url: str):
        with pytest.raises(InvalidRequest):
            parse(url)

    @given(st.text(max_size=200))
    def test_anything_else_is_refused_in_words(self, text: str):
        with pytest.raises(InvalidRequest):
            parse(text)
