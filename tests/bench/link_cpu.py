"""Measure the link: CPU per tunnelled chunk and per request at both ends, against direct HTTP, interleaved, medians.

The replica is the C mock, one chunk a step; the node agent is a process of its own; marketplace and consumer are this
process, so its figure holds the WebSocket server, the tunnel and an empty `async for`, and for direct HTTP the client
and the same `async for`. CPU is /proc schedstat, which other work on the machine does not touch.
Usage: python tests/bench/link_cpu.py [--rounds N]
"""

import argparse
import asyncio
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from raymart_core.wire.replica import GENERATE_PATH, GenerateRequest, Sampling, encode  # noqa: E402
from raymart_local.postgres import EmbeddedPostgres  # noqa: E402
from raymart_marketplace.db.migrate import upgrade  # noqa: E402
from raymart_marketplace.db.session import make_engine, make_sessions  # noqa: E402
from raymart_marketplace.gateway.http_client import DirectUpstream  # noqa: E402
from raymart_marketplace.supply.upstream import Upstream  # noqa: E402
from support.link_market import LinkMarket, link_market, make_supply, until  # noqa: E402
from support.node_agents import agent_process, register, registration  # noqa: E402

SECRET = "bench"
WORKLOADS = (("unary, 1 token", 16, 2_000, 1, 0), ("stream, 50 x 200 x 10 ms", 50, 100, 200, 10_000))
"""Name, concurrency, requests, tokens, microseconds between tokens."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one workload."""

    marketplace_us: float
    agent_us: float
    wall_s: float
    chunks: int


def cpu_us(pid: int | str) -> float:
    """CPU time of all threads of a process so far."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1000


async def load(upstream: Upstream, *, concurrency: int, requests: int, tokens: int, pace_us: int) -> int:
    """Run the workload; chunks received."""
    body = encode(GenerateRequest(sampling=Sampling(max_tokens=tokens), prompt=f"pace_us={pace_us}"))
    left = iter(range(requests))
    chunks = 0

    async def client() -> None:
        nonlocal chunks
        for _ in left:
            response = await upstream.post(GENERATE_PATH, body, request_id="req_bench", deadline_ms=60_000)
            async for _chunk in response.chunks():
                chunks += 1
            await response.aclose()

    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(client())
    return chunks


async def measure(upstream: Upstream, agent_pid: int, **workload: int) -> Sample:
    before = cpu_us("self"), cpu_us(agent_pid), time.monotonic()
    chunks = await load(upstream, **workload)
    after = cpu_us("self"), cpu_us(agent_pid), time.monotonic()
    return Sample(after[0] - before[0], after[1] - before[1], after[2] - before[2], chunks)


@contextlib.asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[tuple[Upstream, Upstream, int]]:
    """The tunnelled and the direct way to one replica, and the agent's process id."""
    mock = directory / "replica_mock"
    subprocess.run([shutil.which("cc") or "cc", "-O2", "-o", mock, HERE / "replica_mock.c"], check=True)
    replica = subprocess.Popen([mock], stdout=subprocess.PIPE, text=True)
    assert replica.stdout is not None
    address = f"127.0.0.1:{int(replica.stdout.readline().split()[-1])}"
    postgres = EmbeddedPostgres(directory / "pg")
    upgrade(postgres.start())
    engine = make_engine(postgres.url, pool_size=3)
    sessions = make_sessions(engine)
    try:
        supply = await make_supply(sessions)
        market: LinkMarket
        async with (
            link_market(sessions, heartbeat_s=1.0, lease_s=4.0) as market,
            agent_process(directory / "node", market, f"--token={await supply.join_token()}") as agent,
        ):
            await until(lambda: "link.live" in agent.log, timeout_s=30)
            await register(directory / "node", registration(supply, address, SECRET, capacity=1024))
            await until(lambda: market.directory.live(supply.model_slug))
            (endpoint,) = market.directory.live(supply.model_slug)
            with market.directory.acquire(endpoint.id) as lease:
                yield lease.upstream, DirectUpstream(address, SECRET), agent.process.pid
    finally:
        await engine.dispose()
        postgres.destroy()
        replica.kill()
        replica.wait()


async def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with stage(Path(directory)) as (tunnel, direct, agent_pid):
            for name, concurrency, requests, tokens, pace_us in WORKLOADS:
                workload = {
                    "concurrency": concurrency,
                    "requests": requests,
                    "tokens": tokens,
                    "pace_us": pace_us,
                }
                samples: dict[str, list[Sample]] = {"link": [], "direct": []}
                for _ in range(rounds + 1):
                    for way, upstream in (("link", tunnel), ("direct", direct)):
                        samples[way].append(await measure(upstream, agent_pid, **workload))
                for way, runs in samples.items():
                    report(f"{name}, {way}", runs[1:], requests, requests * (tokens + 2))


def report(name: str, runs: list[Sample], requests: int, events: int) -> None:
    def median(pick: Callable[[Sample], float]) -> float:
        return statistics.median(map(pick, runs))

    market, agent, wall = (
        median(lambda run: run.marketplace_us),
        median(lambda run: run.agent_us),
        median(lambda run: run.wall_s),
    )
    print(
        f"{name:40s} marketplace {market / requests:8.1f} us/request {market / events:6.1f} us/event   "
        f"agent {agent / requests:8.1f} us/request {agent / events:6.1f} us/event   "
        f"{median(lambda run: run.chunks):.0f} chunks of {events} events, {requests / wall:.0f} requests/s",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    uvloop.run(main(parser.parse_args().rounds))
