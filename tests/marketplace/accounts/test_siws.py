"""The text that a wallet signs, and its signature."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from raymart_core.errors import InvalidRequest, NotAuthenticated
from raymart_marketplace.accounts.siws import SignInMessage, check_signature, read_address, read_message

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
WALLET = Keypair.from_seed(bytes(range(32)))
MESSAGE = SignInMessage(
    domain="raymart.example",
    address=str(WALLET.pubkey()),
    statement="Log in to Raymart. This moves no money.",
    uri="https://raymart.example",
    chain_id="solana:mainnet",
    nonce="0123456789abcdef",
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=5),
    request_id="req_1",
)


def signed(message: SignInMessage, wallet: Keypair = WALLET) -> str:
    return str(wallet.sign_message(message.text().encode()))


class TestText:
    def test_it_is_the_one_of_the_specification(self):
        """A wallet shows another text with a warning, or not at all."""
        assert MESSAGE.text().splitlines() == [
            "raymart.example wants you to sign in with your Solana account:",
            str(WALLET.pubkey()),
            "",
            "Log in to Raymart. This moves no money.",
            "",
            "URI: https://raymart.example",
            "Version: 1",
            "Chain ID: solana:mainnet",
            "Nonce: 0123456789abcdef",
            "Issued At: 2026-11-20T12:00:00Z",
            "Expiration Time: 2026-11-20T12:05:00Z",
            "Request ID: req_1",
        ]

    def test_it_is_read_back(self):
        assert read_message(MESSAGE.text()) == MESSAGE

    @pytest.mark.parametrize(
        "text",
        [
            "",
            MESSAGE.text() + "\n",
            MESSAGE.text() + "\nResources:\n- https://evil.example",
            MESSAGE.text().replace("\n", "\r\n"),
            MESSAGE.text().replace("Version: 1", "Version: 2"),
            MESSAGE.text().replace("Nonce: ", "Nonce:  "),
            MESSAGE.text().replace("2026-11-20T12:00:00Z", "2026-13-20T12:00:00Z"),
            MESSAGE.text().replace("Log in", "Log\nin"),
            MESSAGE.text().replace("Log in", "Log\u202ein"),
            MESSAGE.text() * 50,
        ],
    )
    def test_another_text_is_refused(self, text: str):
        with pytest.raises(InvalidRequest):
            read_message(text)


class TestAddress:
    def test_a_wallets_address_is_taken(self):
        assert read_address(MESSAGE.address) == MESSAGE.address

    @pytest.mark.parametrize(
        "text", ["", "x", "0" * 44, MESSAGE.address + "1", MESSAGE.address[:-1], "1" * 500, "é" * 40]
    )
    def test_what_is_none_is_refused(self, text: str):
        with pytest.raises(InvalidRequest):
            read_address(text)

    def test_a_programs_address_is_refused(self):
        """Nobody has its private key: money sent there is gone."""
        address, _ = Pubkey.find_program_address([b"raymart"], WALLET.pubkey())
        with pytest.raises(InvalidRequest, match="program"):
            read_address(str(address))


class TestSignature:
    def test_the_wallets_own_is_taken(self):
        assert check_signature(MESSAGE, signed(MESSAGE)) == bytes(Signature.from_string(signed(MESSAGE)))

    @pytest.mark.parametrize("field", ["domain", "statement", "uri", "chain_id", "nonce", "request_id"])
    def test_signature_over_another_text_is_refused(self, field: str):
        other = dataclasses.replace(MESSAGE, **{field: getattr(MESSAGE, field) + "x"})
        with pytest.raises(NotAuthenticated):
            check_signature(MESSAGE, signed(other))

    def test_another_wallets_is_refused(self):
        with pytest.raises(NotAuthenticated):
            check_signature(MESSAGE, signed(MESSAGE, Keypair()))

    @pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
    @pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
    def test_keys_of_small_order_sign_nothing(self, key: bytes, point: bytes):
        """For these a lax verifier takes a signature that anybody can write down."""
        message = dataclasses.replace(MESSAGE, address=str(Pubkey.from_bytes(key)))
        with pytest.raises(NotAuthenticated):
            check_signature(message, str(Signature.from_bytes(point + bytes(32))))

    @settings(max_examples=50, deadline=None)
    @given(st.text(max_size=100))
    def test_any_text_is_refused(self, text: str):
        with pytest.raises((NotAuthenticated, InvalidRequest)):
            check_signature(MESSAGE, text)

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 511))
    def test_any_changed_bit_is_refused(self, bit: int):
        raw = bytearray(check_signature(MESSAGE, signed(MESSAGE)))
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NotAuthenticated):
            check_signature(MESSAGE, str(Signature.from_bytes(bytes(raw))))
