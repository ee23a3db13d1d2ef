"""The link: CPU per tunnelled chunk and request at both ends, of what direct HTTP to the replica costs at both ends.

Both ends are all that a chunk passes: replica, node agent (only by the link) and marketplace. The replica is the C mock,
the cheapest there can be, and the consumer an empty `async for`, so both ratios are upper bounds: an engine and a real
gateway cost the same on either way. The agent is a process of its own; marketplace and consumer are this process. CPU is
/proc schedstat, which other work on the machine does not touch much; link and direct take turns, medians.

With one stream nothing can share a message, and the ratio is the link's worst; with many, chunks that become due
together share one.

    PYTHONPATH=tests python tests/bench/link.py [--rounds N]
"""

import argparse
import asyncio
import contextlib
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from raymart_core.wire.replica import GENERATE_PATH, GenerateRequest, Sampling, encode
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.http_client import DirectUpstream
from raymart_marketplace.supply.upstream import Upstream
from support.figures import Figure
from support.link_market import link_market, make_supply, until
from support.node_agents import agent_process, register, registration

HERE = Path(__file__).parent
SECRET = "bench"
MUST, AIM = 2.5, 1.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the consumers ask for; each of `concurrency` asks for the next when it has one."""

    name: str
    concurrency: int
    requests: int
    tokens: int
    pace_us: int
    """Between two tokens of a stream."""

    @property
    def events(self) -> int:
        """Lines that the replica sends, over all requests."""
        return self.requests * (self.tokens + 2)


STREAMS = Workload(
    name="50 streams, a token each 10 ms", concurrency=50, requests=100, tokens=200, pace_us=10_000
)
FEW = Workload(name="8 streams, a token each 20 ms", concurrency=8, requests=16, tokens=200, pace_us=20_000)
ONE = Workload(name="1 stream, a token each 4 ms", concurrency=1, requests=3, tokens=600, pace_us=4_000)
UNARY = Workload(name="unary, 1 token, 16 at once", concurrency=16, requests=2_000, tokens=1, pace_us=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """CPU microseconds of one run."""

    marketplace: float
    agent: float
    replica: float

    @property
    def both_ends(self) -> float:
        return self.marketplace + self.agent + self.replica


@dataclass(frozen=True, slots=True)
class Stage:
    """The two ways to one replica, and whom they cost."""

    link: Upstream
    direct: Upstream
    agent_pid: int
    replica_pid: int


def measure(*, rounds: int = 5) -> Sequence[Figure]:
    """Each workload by both ways."""
    structlog.configure(processors=[_drop])
    with tempfile.TemporaryDirectory(prefix="raymart-bench-") as directory:
        return uvloop.run(_measure(Path(directory), rounds))


async def _measure(directory: Path, rounds: int) -> list[Figure]:
    figures = []
    async with _stage(directory) as stage:
        for workload in (STREAMS, FEW, ONE, UNARY):
            runs = await _compared(stage, workload, rounds)
            figures.append(_figure(workload, **runs))
    return figures


def _figure(workload: Workload, *, link: list[Sample], direct: list[Sample]) -> Figure:
    per, count = ("request", workload.requests) if workload is UNARY else ("chunk", workload.events)
    ratios = [ours.both_ends / theirs.both_ends for ours, theirs in zip(link, direct, strict=True)]
    ratio = statistics.median(ratios)
    is_bound = workload is not UNARY
    return Figure(
        name=f"{workload.name}: link, of direct",
        measured=f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); us a {per}: {_parts(link, count)}, "
        f"direct {_parts(direct, count)}",
        target=f"must {MUST}, aim {AIM} a chunk" if is_bound else "none",
        holds=not is_bound or ratio <= MUST,
    )


def _parts(runs: list[Sample], count: int) -> str:
    """Medians for each process, in microseconds."""
    parts = {
        "marketplace": statistics.median(run.marketplace for run in runs) / count,
        "agent": statistics.median(run.agent for run in runs) / count,
        "replica": statistics.median(run.replica for run in runs) / count,
    }
    return " + ".join(f"{us:.1f} {name}" for name, us in parts.items() if us >= 0.5)


async def _compared(stage: Stage, workload: Workload, rounds: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {"link": [], "direct": []}
    for _ in range(rounds + 1):
        for name, upstream in (("link", stage.link), ("direct", stage.direct)):
            samples[name].append(await _sample(stage, upstream, workload))
    return {name: runs[1:] for name, runs in samples.items()}  # The first warms up.


async def _sample(stage: Stage, upstream: Upstream, workload: Workload) -> Sample:
    pids = ("self", stage.agent_pid, stage.replica_pid)
    before = [cpu_us(pid) for pid in pids]
    await _load(upstream, workload)
    marketplace, agent, replica = (cpu_us(pid) - began for pid, began in zip(pids, before, strict=True))
    return Sample(marketplace=marketplace, agent=agent, replica=replica)


async def _load(upstream: Upstream, workload: Workload) -> None:
    """Consume every answer of `workload`."""
    prompt = f"pace_us={workload.pace_us}"
    body = encode(GenerateRequest(sampling=Sampling(max_tokens=workload.tokens), prompt=prompt))
    left = iter(range(workload.requests))

    async def client() -> None:
        for _ in left:
            response = await upstream.post(GENERATE_PATH, body, request_id="req_bench", deadline_ms=60_000)
            async for _chunk in response.chunks():
                pass
            await response.aclose()

    async with asyncio.TaskGroup() as clients:
        for _ in range(workload.concurrency):
            clients.create_task(client())


def cpu_us(pid: int | str) -> float:
    """CPU time of all threads of a process so far, in microseconds."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += int((task / "schedstat").read_text().split()[0]) / 1000
    return total


@contextlib.asynccontextmanager
async def _stage(directory: Path) -> AsyncIterator[Stage]:
    mock = directory / "replica_mock"
    subprocess.run([shutil.which("cc") or "cc", "-O2", "-o", mock, HERE / "replica_mock.c"], check=True)
    postgres = EmbeddedPostgres(directory / "pg")
    with subprocess.Popen([mock], stdout=subprocess.PIPE, text=True) as replica:
        assert replica.stdout is not None
        address = f"127.0.0.1:{int(replica.stdout.readline().split()[-1])}"
        try:
            upgrade(postgres.start())
            async with _linked(directory, postgres.url, address) as (upstream, agent_pid):
                yield Stage(upstream, DirectUpstream(address, SECRET), agent_pid, replica.pid)
        finally:
            postgres.destroy()
            replica.kill()


@contextlib.asynccontextmanager
async def _linked(directory: Path, database_url: str, address: str) -> AsyncIterator[tuple[Upstream, int]]:
    """The replica at `address` behind a node agent's link, and the agent's process id."""
    engine = make_engine(database_url, pool_size=3)
    sessions = make_sessions(engine)
    try:
        supply = await make_supply(sessions)
        async with (
            link_market(sessions, heartbeat_s=1.0, lease_s=4.0) as market,
            agent_process(directory / "node", market, f"--token={await supply.join_token()}") as agent,
        ):
            await until(lambda: "link.live" in agent.log, timeout_s=30)
            await register(directory / "node", registration(supply, address, SECRET, capacity=1024))
            await until(lambda: market.directory.live(supply.model_slug))
            (endpoint,) = market.directory.live(supply.model_slug)
            with market.directory.acquire(endpoint.id) as lease:
                yield lease.upstream, agent.process.pid
    finally:
        await engine.dispose()


def _drop(*_: object) -> str:
    """Logs nothing."""
    raise structlog.DropEvent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    for each in measure(rounds=parser.parse_args().rounds):
        print(f"{each.name}: {each.measured}; {each.target}")
