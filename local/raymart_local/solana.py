"""Which Solana a stack is on: a development chain of its own with a treasury, or what the caller's environment names.

The development chain is a program to us (`billing/raymart_billing/solana/devchain`); the file `chain.json` in its directory
says what it has made.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from raymart_local.part import Part, answers_http
from raymart_local.ports import LOOPBACK, remembered_port
from raymart_local.program import Program
from raymart_local.secret_file import secret_at

SOLANA = "solana"
"""Name of the part."""
SIGNING_NAMES: Final = frozenset(
    {"RAYMART_TREASURY_KEYPAIR", "RAYMART_TREASURY_KEYCHAIN", "RAYMART_PAYOUT_MARKER_KEY"}
)
"""Settings with which money can be sent, or told apart from money sent: only workers get them."""
CHAIN_NAMES: Final = SIGNING_NAMES | {
    "SOLANA_RPC_URL",
    "RAYMART_SOLANA_CHAIN_ID",
    "RAYMART_USDC_MINT",
    "RAYMART_TREASURY_ADDRESS",
}


def without(environment: Mapping[str, str], names: frozenset[str]) -> Mapping[str, str]:
    """`environment` without `names`."""
    return {name: value for name, value in environment.items() if name not in names}


class EmbeddedSolana:
    """The development chain in `directory`, and what its clients must know.

    Files: `chain.jsonl` (what has landed; its first line is the faucet's key), `chain.json`, `port`.
    """

    def __init__(self, directory: Path, *, treasury_keypair: Path, marker_key: Path) -> None:
        self._directory = directory
        self._treasury_keypair = treasury_keypair
        self._marker_key = marker_key

    def part(self) -> Part:
        """The chain as a part. Every start of the API and of Celery waits for it, and it is there long before them."""
        return Part(name=SOLANA, program=self._prepare, is_ready=self._is_answering)

    def environment(self) -> Mapping[str, str]:
        """What every process of the control plane gets, once the part is ready."""
        told = json.loads((self._directory / "chain.json").read_text())
        return {
            "SOLANA_RPC_URL": told["rpc_url"],
            "RAYMART_SOLANA_CHAIN_ID": "solana:localnet",
            "RAYMART_USDC_MINT": told["usdc_mint"],
            "RAYMART_TREASURY_ADDRESS": told["treasury"],
        }

    def signing_environment(self) -> Mapping[str, str]:
        """What workers get besides."""
        return {
            "RAYMART_TREASURY_KEYPAIR": str(self._treasury_keypair),
            "RAYMART_PAYOUT_MARKER_KEY": secret_at(self._marker_key),
        }

    async def _is_answering(self) -> bool:
        port = await asyncio.to_thread((self._directory / "port").read_text)
        return await answers_http(f"http://{LOOPBACK}:{port.strip()}/health")()

    def _prepare(self) -> Program:
        self._directory.mkdir(parents=True, exist_ok=True)
        port = remembered_port(self._directory / "port")
        argv = (
            sys.executable,
            "-m",
            "raymart_billing.solana.devchain",
            f"--data-dir={self._directory}",
            f"--port={port}",
            f"--treasury-keypair={self._treasury_keypair}",
        )
        # It knows nothing of the control plane.
        return Program(argv=argv, env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"})
