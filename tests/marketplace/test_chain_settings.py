import pytest
from pydantic import ValidationError
from solders.keypair import Keypair

from raymart_marketplace.chain_settings import ChainSettings

ADDRESS = str(Keypair().pubkey())
GIVEN = {
    "solana_rpc_urls": "https://one.example/key, https://two.example",
    "treasury_address": ADDRESS,
    "solana_chain_id": "solana:devnet",
}


def refused(**changes: object) -> str:
    with pytest.raises(ValidationError) as error:
        ChainSettings(**(GIVEN | changes))
    return str(error.value)


class TestChainSettings:
    def test_without_endpoints_there_is_no_chain_and_nothing_is_asked_for(self) -> None:
        assert ChainSettings().solana_rpc_urls == ()

    def test_endpoints_come_from_one_name_parted_by_commas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOLANA_RPC_URL", "http://127.0.0.1:1,http://127.0.0.1:2")
        monkeypatch.setenv("RAYMART_TREASURY_ADDRESS", ADDRESS)
        found = ChainSettings().solana_rpc_urls
        assert [url.get_secret_value() for url in found] == ["http://127.0.0.1:1", "http://127.0.0.1:2"]

    def test_an_endpoints_key_is_not_shown(self) -> None:
        assert "one.example" not in repr(ChainSettings(**GIVEN))
        assert "top-secret" not in refused(solana_rpc_urls="ftp://x/top-secret")

    def test_circles_mint_is_known(self) -> None:
        assert ChainSettings(**GIVEN).usdc_mint_address == "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
        assert ChainSettings(**GIVEN, usdc_mint=ADDRESS).usdc_mint_address == ADDRESS

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"solana_rpc_urls": "https://a,https://b,https://c"}, "at most 2"),
            ({"solana_rpc_urls": "https://a,https://a"}, "one address twice"),
            ({"solana_rpc_urls": "a.example"}, "is no https:// or http:// address"),
            ({"solana_rpc_urls": "https://"}, "is no https:// or http:// address"),
            ({"solana_rpc_urls": "https://a:port"}, "is no https:// or http:// address"),
            ({"solana_rpc_urls": "http://[::1"}, "is no https:// or http:// address"),
            ({"treasury_address": None}, "without RAYMART_TREASURY_ADDRESS"),
            ({"treasury_address": "0x1234"}, "no Solana address"),
            ({"usdc_mint": "x"}, "no Solana address"),
            ({"solana_chain_id": "solana:localnet"}, "without RAYMART_USDC_MINT"),
            ({"payout_marker_key": "short"}, "fewer than 32 bytes"),
            ({"treasury_keypair": "/a", "treasury_keychain": "{}"}, "keep one"),
            ({"payout_transaction_usdc_max": 11, "payout_day_usdc_max": 10}, "exceeds"),
            ({"payout_transaction_version": 2}, "Input should be 0 or 1"),
        ],
    )
    def test_what_cannot_work_stops_the_process_with_a_reason(
        self, changes: dict[str, object], reason: str
    ) -> None:
        assert reason in refused(**changes)

    def test_the_version_is_read_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAYMART_PAYOUT_TRANSACTION_VERSION", "0")
        assert ChainSettings().payout_transaction_version == 0
