"""Keys that a KMS or vault keeps, by the real library; the keeper is somebody else's and stands in here."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from solana_keychain import MemorySigner, ModifyingSigner, SendingSigner
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from raymart_billing.solana import Limits
from raymart_billing.solana.errors import SignerMisconfigured
from raymart_billing.solana.signing import PolicySigner
from raymart_billing.solana.signing.keychain import KeychainSigner, accepted
from raymart_core.errors import Unavailable
from support.dev_chain import Market
from support.scripted_endpoint import serving
from support.treasury import Treasury

KEY = Keypair()


@contextlib.asynccontextmanager
async def vault(key: Keypair, *, status: int = 200) -> AsyncIterator[str]:
    """A Vault's transit engine that signs with `key`."""

    async def sign(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        message = base64.b64decode(json.loads(await reader.readexactly(length))["input"])
        signature = base64.b64encode(bytes(key.sign_message(message))).decode()
        body = json.dumps({"data": {"signature": f"vault:v1:{signature}"}}).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()

    async with serving(sign) as url:
        yield url


def configured(url: str, key: Keypair, *, address: Pubkey | None = None) -> KeychainSigner:
    config = {
        "backend": "vault",
        "api_base_url": url,
        "token": "a-secret-token",
        "key_name": "treasury",
        "public_key": str(key.pubkey()),
    }
    return KeychainSigner(config_json=json.dumps(config), address=address or key.pubkey())


class TestKeychainSigner:
    @pytest.mark.parametrize("version", [1, 0])
    async def test_a_vaults_signature_pays_on_the_chain(self, version) -> None:
        market = Market.funded()
        treasury = Treasury(market, version=version)
        wallet = market.wallet()
        async with vault(treasury.key) as url:
            keychain = configured(url, treasury.key)
            treasury.signer = PolicySigner(keychain, treasury.policy, treasury.books)
            status = await treasury.land(
                await treasury.payout(treasury.payees([wallet]), limits=Limits(compute_units=30_000))
            )
            await treasury.signer.aclose()
        assert status.error is None
        assert market.balance(wallet.pubkey()) == 5

    async def test_a_keeper_that_is_away_is_unavailable_and_tells_no_secret(self) -> None:
        market = Market.funded()
        treasury = Treasury(market)
        payout = await treasury.payout(treasury.payees([market.wallet()]))
        async with vault(treasury.key, status=503) as url:
            with pytest.raises(Unavailable, match="did not sign") as error:
                await configured(url, treasury.key).sign(payout.message)
        assert "a-secret-token" not in error.value.message

    async def test_a_keeper_with_another_key_signs_nothing(self) -> None:
        market = Market.funded()
        treasury = Treasury(market)
        payout = await treasury.payout(treasury.payees([market.wallet()]))
        async with vault(KEY) as url:
            with pytest.raises(Unavailable, match="did not sign"):
                await configured(url, treasury.key).sign(payout.message)
            with pytest.raises(SignerMisconfigured, match="RAYMART_TREASURY_ADDRESS is"):
                await configured(url, KEY, address=treasury.address).sign(payout.message)

    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            ("no json", "no JSON object"),
            ("[]", "no JSON object"),
            ("{}", "names no backend"),
            ('{"backend": "memory"}', "names no backend"),
            ('{"backend": "piggy-bank"}', "names no backend"),
            ('{"backend": "vault"}', "lacks some of api_base_url"),
            ('{"backend": "vault", "tokn": "a-secret-token"}', "tokn, which 'vault' does not know"),
            ('{"backend": "aws-kms", "key_id": "x"}', r"install `solana-keychain\[aws-kms\]`"),
        ],
    )
    def test_a_wrong_configuration_is_named_without_its_values(self, config: str, reason: str) -> None:
        with pytest.raises(SignerMisconfigured, match=reason) as refused:
            KeychainSigner(config_json=config, address=KEY.pubkey())
        assert "a-secret-token" not in refused.value.message


class Sending(SendingSigner):
    """A provider that broadcasts by itself."""

    pubkey = KEY.pubkey()

    async def sign_message(self, message: bytes) -> Signature:
        return KEY.sign_message(message)

    async def is_available(self) -> bool:
        return True

    async def sign_and_send_transaction(self, transaction: VersionedTransaction) -> Signature:
        raise AssertionError("never asked")


class Modifying(ModifyingSigner):
    """A provider that rewrites what it signs."""

    pubkey = KEY.pubkey()

    async def sign_message(self, message: bytes) -> Signature:
        return KEY.sign_message(message)

    async def is_available(self) -> bool:
        return True

    async def modify_and_sign_transaction(self, transaction: VersionedTransaction):
        raise AssertionError("never asked")


class TestAccepted:
    def test_one_that_only_signs_is(self) -> None:
        signer = MemorySigner(KEY)
        assert accepted(signer, address=KEY.pubkey(), backend="memory") is signer

    @pytest.mark.parametrize("signer", [Sending(), Modifying()])
    def test_one_that_sends_or_rewrites_is_not(self, signer) -> None:
        with pytest.raises(SignerMisconfigured, match="sends or rewrites transactions itself"):
            accepted(signer, address=KEY.pubkey(), backend="fireblocks")
