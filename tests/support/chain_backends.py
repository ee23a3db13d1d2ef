"""The chains that the contract is checked against: ours, and other people's where it is installed."""

import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Protocol

import httpx

from raymart_billing.solana.devchain import DevChain
from support.dev_chain import RpcRefusal

SURFPOOL = Path(__file__).parents[1] / "surfpool"
_ids = itertools.count(1)


class Backend(Protocol):
    """A chain behind JSON-RPC whose time passes somehow."""

    gaps: frozenset[str]
    """What it is known not to do."""

    def ask(self, method: str, *params: object):
        """The `result`. Raises: RpcRefusal."""

    def pass_slots(self, count: int) -> None:
        """Returns when `count` slots have passed."""

    def close(self) -> None: ...


class OurChain:
    """The development chain in this process; slots pass at once."""

    gaps = frozenset()

    def __init__(self) -> None:
        self.chain = DevChain()

    def ask(self, method: str, *params: object):
        request = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": list(params)}
        return result_of(self.chain.first_node.respond(request))

    def pass_slots(self, count: int) -> None:
        self.chain.advance(count)

    def close(self) -> None: ...


class Surfpool:
    """A surfpool process with slots of 20 ms."""

    SLOT_MS = 20
    gaps = frozenset({"minContextSlot"})

    def __init__(self) -> None:
        argv = ["node", "surfnet.cjs", str(self.SLOT_MS)]
        self._process = subprocess.Popen(
            argv, cwd=SURFPOOL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["rpc"]
        self._client = httpx.Client(timeout=20, trust_env=False)

    def ask(self, method: str, *params: object):
        request = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": list(params)}
        return result_of(self._client.post(self.url, json=request).json())

    def pass_slots(self, count: int) -> None:
        end = self.ask("getSlot", {"commitment": "processed"}) + count
        while self.ask("getSlot", {"commitment": "processed"}) < end:
            # Somebody else's clock: there is nothing to wait on.
            time.sleep(self.SLOT_MS / 1_000)

    def close(self) -> None:
        self._client.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


def why_no_surfpool() -> str | None:
    """None = it is installed."""
    if shutil.which("node") is None:
        return "there is no Node here"
    if not (SURFPOOL / "node_modules" / "@solana").exists():
        return "surfpool is not installed: `make test-surfpool`"
    return None


def result_of(response: dict[str, object]):
    if "error" in response:
        raise RpcRefusal(response["error"])
    return response["result"]
