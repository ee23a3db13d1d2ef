"""The development chain as a part of the stack: what it makes at the first start."""

import subprocess
from pathlib import Path

import httpx

from raymart_local.layout import Layout
from raymart_local.program import stopped
from raymart_local.solana import EmbeddedSolana


class TestPart:
    async def test_it_becomes_ready_with_a_treasury_that_has_money(self, tmp_path: Path):
        layout = Layout(tmp_path)
        solana = EmbeddedSolana(
            layout.solana, treasury_keypair=layout.treasury_keypair, marker_key=layout.payout_marker_key
        )
        part = solana.part()
        with (tmp_path / "log").open("wb") as log:
            process = part.program().launch(output=log)
        try:
            await ready(part, process, tmp_path / "log")
            told = solana.environment()
            funds = ask(told["SOLANA_RPC_URL"], "getBalance", told["RAYMART_TREASURY_ADDRESS"])
            assert funds["value"] == 1_000 * 10**9
            mint = ask(told["SOLANA_RPC_URL"], "getTokenSupply", told["RAYMART_USDC_MINT"])
            assert mint["value"]["uiAmountString"] == "1000000"
        finally:
            stopped(process, signal=part.stop_signal, timeout_s=part.stop_grace_s)
        assert layout.treasury_keypair.stat().st_mode & 0o777 == 0o600
        assert layout.secrets.stat().st_mode & 0o777 == 0o700

    async def test_a_url_that_nobody_serves_is_not_ready(self, tmp_path: Path):
        solana = EmbeddedSolana(tmp_path, treasury_keypair=tmp_path / "key", marker_key=tmp_path / "marker")
        part = solana.part()
        part.program()
        assert not await part.is_ready()


async def ready(part, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while not await part.is_ready():
        assert process.poll() is None, log.read_text()


def ask(url: str, method: str, *params: object):
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx.post(url, json=request, timeout=10).json()["result"]
