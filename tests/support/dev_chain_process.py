"""The development chain as a process of its own, on a port of 127.0.0.1, that a test may kill and start again."""

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx


class DevChainProcess:
    """`python -m raymart_billing.solana.devchain` on `directory`; `start` returns when it answers.

    With short slots finality comes soon: 32 slots of 10 ms are 0.3 s.
    """

    def __init__(self, directory: Path, *, slot_ms: float = 10, port: int = 0) -> None:
        self.directory = directory
        self._argv = [
            sys.executable,
            "-m",
            "raymart_billing.solana.devchain",
            f"--data-dir={directory}",
            f"--slot-ms={slot_ms}",
            f"--port={port}",
            f"--treasury-keypair={self.treasury_keypair}",
        ]
        self._process: subprocess.Popen[str] | None = None
        self._ids = itertools.count(1)
        self._client = httpx.Client(timeout=10, trust_env=False)

    @property
    def treasury_keypair(self) -> Path:
        return self.directory / "treasury.json"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def told(self) -> dict[str, str]:
        """`rpc_url`, `genesis_hash`, `usdc_mint` and `treasury` of the running chain."""
        return json.loads((self.directory / "chain.json").read_text())

    @property
    def url(self) -> str:
        return self.told["rpc_url"]

    def start(self) -> Self:
        self._process = subprocess.Popen(self._argv, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "devchain.ready" in line:
                return self
        self._end(signal.SIGKILL)
        raise AssertionError(f"the development chain ended: {''.join(said)}")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(with_signal)
            self._process.wait(timeout=15)
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = None

    def ask(self, method: str, *params: object, path: str = ""):
        """The `result` of a request to the node at `path`."""
        response = self.post(
            {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}, path
        )
        content = response.json()
        assert "error" not in content, content
        return content["result"]

    def post(self, content: object, path: str = "", **headers: str) -> httpx.Response:
        """A request as it is."""
        return self._client.post(self.url + path, json=content, headers=headers)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._client.close()
