"""Node agents for tests: in this event loop, or as a process that may be killed; and registering replicas with them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from raymart_core.wire.link import Hardware
from raymart_providers.agent import NodeAgent
from raymart_providers.identity import NodeKey
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.handshake import Credentials
from raymart_providers.state_dir import StateDir
from raymart_serve.replica.registration import ReplicaRegistration
from support.link_market import LinkMarket, Supply, until

HARDWARE = Hardware(hostname="test", cpu_model="test", cpu_count=2, memory_bytes=2**30)


def credentials(state_dir: Path, market: LinkMarket, *, token: str | None, **changes: Any) -> Credentials:
    state = StateDir(state_dir)
    state.create()
    values: dict[str, Any] = {
        "state": state,
        "key": NodeKey.load_or_create(state.key),
        "role": "node",
        "name": state_dir.name,
        "server": market.url,
        "hardware": HARDWARE,
        "join_token": token,
    }
    return Credentials(**{**values, **changes})


@contextlib.asynccontextmanager
async def running_agent(
    state_dir: Path,
    market: LinkMarket,
    *,
    token: str | None,
    hardware: Hardware = HARDWARE,
    **settings: Any,
) -> AsyncIterator[NodeAgent]:
    """A node agent in this event loop, its link live."""
    agent = NodeAgent(
        url=market.link_url,
        credentials=credentials(state_dir, market, token=token, hardware=hardware),
        backoff=Backoff(first_s=0.02, longest_s=0.2),
        **{"drain_s": 1.0, **settings},
    )
    task = asyncio.create_task(agent.run())
    try:
        await until(lambda: task.done() or agent.report().link.state == "live")
        if task.done():
            task.result()
        yield agent
    finally:
        agent.stop()
        await task


def registration(supply: Supply, address: str, secret: str, **changes: Any) -> ReplicaRegistration:
    values: dict[str, Any] = {
        "replica_id": "replica-1",
        "revision": supply.digest,
        "model": supply.model_slug,
        "engine": "llama_cpp",
        "address": address,
        "secret": secret,
        "pid": os.getpid(),
        "capacity": 4,
        "context_length": 1024,
    }
    return ReplicaRegistration(**{**values, **changes})


async def register(state_dir: Path, replica: ReplicaRegistration) -> httpx.Response:
    """Register once, as a replica does."""
    agent = json.loads((state_dir / "agent.json").read_text())
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(
            f"{agent['url']}/v1/replicas",
            content=msgspec.json.encode(replica),
            headers={"Authorization": f"Bearer {agent['token']}"},
        )


async def keep_registering(state_dir: Path, replica: ReplicaRegistration, *, every_s: float = 0.1) -> None:
    """Register for ever, through restarts of the agent."""
    while True:
        with contextlib.suppress(httpx.HTTPError, FileNotFoundError):
            await register(state_dir, replica)
        await asyncio.sleep(every_s)


@contextlib.asynccontextmanager
async def registered(state_dir: Path, replica: ReplicaRegistration) -> AsyncIterator[None]:
    """`replica` keeps itself registered with the agent of `state_dir`."""
    task = asyncio.create_task(keep_registering(state_dir, replica))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class AgentProcess:
    """`raymart-provider join` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self.process = process
        self.log_path = log_path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The process stands still (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def agent_process(
    state_dir: Path, market: LinkMarket, *arguments: str, name: str | None = None
) -> AsyncIterator[AgentProcess]:
    """A running agent; killed at the end if it still lives."""
    log_path = state_dir.with_suffix(".log")
    command = (
        str(Path(sys.executable).parent / "raymart-provider"),
        "join",
        f"--server={market.url}",
        f"--name={name or state_dir.name}",
        f"--state-dir={state_dir}",
        # The machine's own Ray is tested by itself (tests/providers/ray_process).
        "--ray=none",
        *arguments,
    )
    with log_path.open("ab") as log:
        # Every test's machine is another one, or the marketplace would know it from the test before.
        environment = {**os.environ, "RAYMART_MACHINE_ID": str(state_dir)}
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment)
    try:
        yield AgentProcess(process, log_path)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()
