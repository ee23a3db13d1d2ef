"""The development chain in a process of its own, with two nodes and fast slots, for faults that no test may share.

Usage: python -m support.chaos_chain SLOT_S. Prints one line of JSON: the nodes' addresses, the mint, and the control's
address, by which `ControlledChain` gives money, opens accounts, breaks nodes and forks.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn
from solders.pubkey import Pubkey
from spl.token.constants import TOKEN_PROGRAM_ID
from spl.token.instructions import get_associated_token_address
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from raymart_billing.solana.devchain import DevChain, Faults, Node, NodeUnavailable, SlotClock
from support.celery_processes import TESTS

NODES = 2


class Control:
    """What a test may do to the chain, by name."""

    def __init__(self, chain: DevChain, nodes: Sequence[Node]) -> None:
        self.chain = chain
        self.nodes = nodes
        self.mint = chain.faucet.create_mint()

    def fund(self, wallet: str, lamports: int, micro_usdc: int) -> None:
        self.chain.faucet.airdrop(Pubkey.from_string(wallet), lamports=lamports)
        self.chain.faucet.give_tokens(Pubkey.from_string(wallet), mint=self.mint, amount=micro_usdc)

    def open_accounts(self, wallets: Sequence[str]) -> None:
        for wallet in wallets:
            self.chain.faucet.open_token_account(Pubkey.from_string(wallet), mint=self.mint)

    def freeze(self, wallet: str) -> None:
        self.chain.faucet.freeze(self._tokens(wallet), mint=self.mint)

    def faults(self, node: int, **wanted: int | bool) -> None:
        for name, value in wanted.items():
            assert hasattr(self.nodes[node].faults, name), name
            setattr(self.nodes[node].faults, name, value)

    def heal(self) -> None:
        """All nodes healthy, finality as on mainnet."""
        for node in self.nodes:
            for name, value in vars_of(Faults()).items():
                setattr(node.faults, name, value)
        self.chain.finality_slots = 32

    def finality(self, slots: int) -> None:
        self.chain.finality_slots = slots

    def fork(self, slots: int) -> int:
        """As many of the newest slots as are not final yet, at most `slots`; returns how many transactions went."""
        chain = self.chain.chain
        chain.catch_up()
        room = chain.slot("processed") - chain.slot("finalized")
        return len(self.chain.rollback(min(slots, room)))

    def balances(self, wallets: Sequence[str]) -> list[int]:
        """Micro-USDC, newest."""
        self.chain.chain.catch_up()
        accounts = [self.chain.chain.machine.account(self._tokens(wallet)) for wallet in wallets]
        return [0 if one is None else int.from_bytes(bytes(one.data)[64:72], "little") for one in accounts]

    def _tokens(self, wallet: str) -> Pubkey:
        return token_account_of(wallet, str(self.mint))


def vars_of(faults: Faults) -> Mapping[str, int | bool]:
    """The faults by name."""
    return {name: getattr(faults, name) for name in Faults.__slots__}


def token_account_of(wallet: str, mint: str) -> Pubkey:
    """The wallet's associated token account."""
    return get_associated_token_address(
        Pubkey.from_string(wallet), Pubkey.from_string(mint), TOKEN_PROGRAM_ID
    )


def application(control: Control) -> Starlette:
    """One route per node, and one for the test."""

    def of_node(node: Node) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                return JSONResponse(await node.handle(await request.json()))
            except NodeUnavailable:
                return Response(status_code=503)
            except ClientDisconnect:  # Killed while it asked.
                return Response(status_code=400)

        return answer

    async def command(request: Request) -> Response:
        wanted = await request.json()
        done = getattr(control, wanted["name"])(*wanted["arguments"], **wanted["named"])
        return JSONResponse({"result": done})

    nodes = [
        Route(f"/{number}", of_node(node), methods=["POST"]) for number, node in enumerate(control.nodes)
    ]
    return Starlette(routes=[*nodes, Route("/control", command, methods=["POST"])])


def main(slot_s: float) -> None:
    chain = DevChain(clock=SlotClock(slot_s=slot_s, started_at=time.monotonic(), now=time.monotonic))
    control = Control(chain, [chain.node() for _ in range(NODES)])
    listening = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    about = {
        "nodes": [f"{base}/{number}" for number in range(NODES)],
        "control": f"{base}/control",
        "mint": str(control.mint),
    }
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()
    config = uvicorn.Config(application(control), log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


class ControlledChain:
    """The chain as the test sees it; the process ends with the block."""

    def __init__(self, *, slot_s: float) -> None:
        self._argv = [sys.executable, "-m", "support.chaos_chain", str(slot_s)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv, cwd=TESTS, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        about = json.loads(self._process.stdout.readline())
        self.nodes: Sequence[str] = about["nodes"]
        self.mint: str = about["mint"]
        self._http = httpx.Client(trust_env=False, timeout=120)
        self._control = about["control"]
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._http.close()
        self._process.kill()
        self._process.wait()

    def do(self, name: str, *arguments: object, **named: object) -> Any:
        """Call a method of `Control`."""
        wanted = {"name": name, "arguments": arguments, "named": named}
        answer = self._http.post(self._control, json=wanted)
        answer.raise_for_status()
        return answer.json()["result"]


if __name__ == "__main__":
    main(float(sys.argv[1]))
