"""Load on gateways that are killed or lose their database: clients that note what they were promised, and when."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx

from support.scripted_replica import Exchange, ScriptedReplica

PROGRAM = Path(__file__).parent / "chaos_gateway.py"
STEP_S = 0.02
STREAM_TOKENS = 900


@dataclass(slots=True)
class StreamSeen:
    """What a client saw of one stream: when each token came."""

    request_id: UUID
    token_times: list[float] = field(default_factory=list)
    is_complete: bool = False


@dataclass(slots=True)
class Seen:
    """What all clients saw."""

    acknowledged: dict[UUID, float] = field(default_factory=dict)
    """Whole replies, by the moment they came."""
    failed: int = 0
    streams: list[StreamSeen] = field(default_factory=list)


async def serve(exchange: Exchange) -> None:
    """A few tokens at once, or many, one every 20 ms, for a request that wants many."""
    exchange.prompt()
    wanted = exchange.request.sampling.max_tokens
    for _ in range(wanted):
        if exchange.gone.is_set():
            return
        exchange.step()
        if wanted > 100:
            await asyncio.sleep(STEP_S)
    exchange.finish()


class GatewayProcess:
    """One gateway in a process of its own."""

    def __init__(self, process: subprocess.Popen, about: dict[str, str], log_path: Path) -> None:
        self.process = process
        self.log_path = log_path
        self.organization_id = UUID(about["organization"])
        self.model = about["model"]
        self.client = httpx.AsyncClient(
            base_url=about["url"], headers={"authorization": f"Bearer {about['key']}"}, timeout=30
        )

    def kill(self) -> float:
        """SIGKILL; returns when."""
        at = time.monotonic()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return at

    async def account(self) -> str:
        """For who waits in vain: the end of its log, and where each of its tasks stands."""
        if self.process.poll() is not None:
            return f"the gateway has ended with {self.process.returncode}:\n{_end_of(self.log_path)}"
        self.process.send_signal(signal.SIGUSR1)
        await asyncio.sleep(1.0)
        return f"the gateway says:\n{_end_of(self.log_path)}"

    async def ask(self, seen: Seen) -> None:
        """One short request that is not streamed."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        try:
            response = await self.client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError:
            seen.failed += 1
            return
        if response.status_code == 200:
            seen.acknowledged[_id_of(response)] = time.monotonic()
        else:
            seen.failed += 1

    async def follow(self, seen: Seen) -> None:
        """One long stream, token by token, to its end or the gateway's."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": STREAM_TOKENS,
            "stream": True,
        }
        with contextlib.suppress(httpx.HTTPError):
            async with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    seen.failed += 1
                    return
                stream = StreamSeen(_id_of(response))
                seen.streams.append(stream)
                async for line in response.aiter_lines():
                    if line == "data: [DONE]":
                        stream.is_complete = True
                    elif '"content"' in line:
                        stream.token_times.append(time.monotonic())


@contextlib.asynccontextmanager
async def gateways(
    url: str, count: int, *, replica: ScriptedReplica | str, directory: Path, capacity: int = 1000
) -> AsyncIterator[list[GatewayProcess]]:
    """`count` gateway processes at once; killed at the end of the block, whatever happened.

    `replica` may be the addresses of several, parted by commas, of `capacity` slots each.
    """
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[1])}
    address = replica if isinstance(replica, str) else replica.address
    argv = [sys.executable, str(PROGRAM), url, address, str(directory), str(capacity)]
    directory.mkdir(parents=True, exist_ok=True)
    processes: list[tuple[subprocess.Popen, Path]] = []
    started: list[GatewayProcess] = []
    try:
        for number in range(count):
            log_path = directory.with_name(f"gateway-{number}.log")
            with log_path.open("ab") as log:
                process = subprocess.Popen(
                    argv, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                )
            processes.append((process, log_path))
        for process, log_path in processes:
            about = await asyncio.to_thread(_about, process, log_path)
            started.append(GatewayProcess(process, about, log_path))
        yield started
    finally:
        for gateway in started:
            await gateway.client.aclose()
        for process, _ in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


async def forever(job, *, until: asyncio.Event) -> None:
    """Run `job` again and again, with a breath in between so that one that fails at once does not spin."""
    while not until.is_set():
        await job()
        await asyncio.sleep(0.002)


def _about(process: subprocess.Popen, log_path: Path) -> dict[str, str]:
    """The line that the gateway prints once it serves."""
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"the gateway did not start:\n{_end_of(log_path)}")
    return json.loads(line)


def _end_of(path: Path, *, bytes_max: int = 20_000) -> str:
    return path.read_bytes()[-bytes_max:].decode(errors="replace")


def _id_of(response: httpx.Response) -> UUID:
    return UUID(hex=response.headers["x-request-id"].removeprefix("req_"))
