"""A chain whose process is killed again and again, in the midst of traffic, forgets nothing that it has told."""

import json
import threading
from pathlib import Path

import httpx
import pytest
from solders.keypair import Keypair

from support.dev_chain import USDC
from support.dev_chain_process import DevChainProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 8
GIVEN_BETWEEN = 25


class Receivers:
    """Ask for tokens, one wallet each time, until the chain is gone; remember what was acknowledged."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: dict[str, str] = {}
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._receive) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def wait_for_some(self) -> None:
        assert self._enough.wait(60)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _receive(self) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while True:
                wallet = str(Keypair().pubkey())
                request = {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "devchain_giveTokens",
                    "params": [wallet, USDC],
                }
                try:
                    signature = client.post(self._url, json=request).json()["result"]
                except (httpx.HTTPError, json.JSONDecodeError):
                    return
                self.acknowledged[wallet] = signature
                if len(self.acknowledged) >= GIVEN_BETWEEN:
                    self._enough.set()


def test_what_was_acknowledged_is_there_after_each_kill(tmp_path: Path):
    told: dict[str, str] = {}
    with DevChainProcess(tmp_path) as chain:
        for _ in range(KILLS):
            receivers = Receivers(chain.url)
            receivers.wait_for_some()
            chain.kill()
            receivers.join()
            told |= receivers.acknowledged
            chain.start()
        landed = statuses(chain, list(told.values()))
        supply = chain.ask("getTokenSupply", chain.told["usdc_mint"], {"commitment": "processed"})
    assert len(told) >= KILLS * GIVEN_BETWEEN
    assert [signature for signature, status in landed.items() if status is None or status["err"]] == []
    gifts = int(supply["value"]["amount"]) // USDC - 1_000_000
    # What was under way at a kill may have landed without anybody being told: at most one a thread.
    assert len(told) <= gifts <= len(told) + 2 * KILLS


def statuses(chain: DevChainProcess, signatures: list[str]) -> dict[str, dict | None]:
    found: dict[str, dict | None] = {}
    for start in range(0, len(signatures), 256):
        part = signatures[start : start + 256]
        answer = chain.ask("getSignatureStatuses", part, {"searchTransactionHistory": True})
        found |= dict(zip(part, answer["value"], strict=True))
    return found
