"""The gateway beside nginx and LiteLLM: CPU of a request and of a chunk, what it adds to a request's time, its memory.

Ours is the API as `raymart serve-api` runs it, with key authentication, a lease, 50 endpoints in routing, limits, token
counting and durable records (PostgreSQL with fsync) on. nginx is a plain proxy; LiteLLM is tuned, checks a key and
keeps limits in Redis, and records nothing. All answer the same requests with the same tokens, from the same process in
C, which speaks our wire to us and OpenAI's to them. The gateways have core 0, everything else core 1; they take turns,
and figures are medians of the rounds. CPU is schedstat's, of all threads and children.

    make bench only=gateway
"""

import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cpu_ratio import CHUNK_AIM, CHUNK_MUST, STREAM, UNARY, UNARY_AIM, UNARY_MUST, per_unit
from gateway_load import Sample, Target, Workload, load, middle
from gateway_load import measure as samples_of
from gateway_stage import Stage, gateway_stage, server_alone, workers
from litellm_peer import litellm
from nginx_peer import NGINX
from processes import family, own_mb, pss_mb, rss_mb
from progress import say

from support.figures import Figure

ROUNDS = int(os.environ.get("RAYMART_BENCH_ROUNDS", "5"))
LONGER = replace(UNARY, name="unary, 100 tokens, C=8", requests=1_500, tokens=100)
MANY = replace(
    STREAM, name="stream, 100 x 20 ms, C=200", concurrency=200, requests=400, tokens=100, pace_us=20_000
)
QUIET = Workload(name="unary at 40/s", mode="unary", concurrency=16, requests=240, tokens=16, rate=40.0)
QUIET_STREAM = replace(
    QUIET, name="first token at 40/s", mode="stream", concurrency=32, tokens=8, pace_us=5_000
)

WARMING = replace(UNARY, name="for memory", concurrency=64, requests=4_000)
"""Enough connections that each worker gets some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The most that ours may be of a peer's."""

    peer: str
    must: float
    aim: float

    def figure(self, name: str, ours: Sequence[float], theirs: Sequence[float], unit: str) -> Figure:
        """Ours of theirs, medians of the rounds."""
        mine, other = statistics.median(ours), statistics.median(theirs)
        share = mine / other
        return Figure(
            name=f"{name}, of {self.peer}",
            measured=f"{_times(share)}: {_number(mine)} {unit} [{_number(min(ours))}-{_number(max(ours))}]"
            f" against {_number(other)} [{_number(min(theirs))}-{_number(max(theirs))}]",
            target=f"must {_times(self.must)}, aim {_times(self.aim)}",
            holds=share <= self.must,
        )


UNARY_BOUNDS = (
    Bound(peer="LiteLLM", must=1 / 40, aim=1 / 80),
    Bound(peer=NGINX, must=UNARY_MUST, aim=UNARY_AIM),
)
CHUNK_BOUNDS = (
    Bound(peer="LiteLLM", must=1 / 8, aim=1 / 12),
    Bound(peer=NGINX, must=CHUNK_MUST, aim=CHUNK_AIM),
)
MEMORY_BOUND = Bound(peer="LiteLLM", must=1 / 3, aim=1 / 5)
WORKERS, SETTLE_S = 4, 5.0
ADDED_MS_MUST, ADDED_MS_AIM = 1.0, 0.5


def measure() -> Sequence[Figure]:
    """On servers of its own."""
    say("starting PostgreSQL, Redis, the API and nginx")
    with gateway_stage() as stage:
        with peers(stage) as others:
            targets = [stage.ours, *others]
            figures = _cpu(UNARY, targets, UNARY_BOUNDS)
            figures += _cpu(LONGER, targets, UNARY_BOUNDS)
            figures += _cpu(STREAM, targets, CHUNK_BOUNDS)
            figures += _cpu(MANY, [each for each in targets if each.name != "LiteLLM"], CHUNK_BOUNDS)
            figures += _added(stage, QUIET, "p50_ms")
            figures += _added(stage, QUIET_STREAM, "first_p50_ms")
            figures += _memory(targets)
        return [*figures, *_memory_of_workers(stage), _server_alone(stage)]


@contextlib.contextmanager
def peers(stage: Stage) -> Iterator[Sequence[Target]]:
    """Nginx and LiteLLM, in front of the same replica. Raises: RuntimeError where one cannot be had."""
    if stage.nginx is None:
        raise RuntimeError("there is no nginx, and apt-get could not get it: install nginx")
    say("starting LiteLLM")
    with litellm(
        stage.folder / "litellm", upstream_port=stage.upstream_port, redis_url=stage.redis_url
    ) as other:
        yield stage.nginx, other


def _cpu(workload: Workload, targets: Sequence[Target], bounds: Sequence[Bound]) -> list[Figure]:
    say(workload.name)
    samples = samples_of(workload, targets, rounds=ROUNDS)
    spent = {name: per_unit(workload, runs) for name, runs in samples.items()}
    name = f"{workload.name}: CPU a {'chunk' if workload.mode == 'stream' else 'request'}"
    figures = [
        bound.figure(name, spent[targets[0].name], spent[bound.peer], "us")
        for bound in bounds
        if bound.peer in spent
    ]
    return [*figures, _clocks(workload, samples)]


def _clocks(workload: Workload, samples: Mapping[str, Sequence[Sample]]) -> Figure:
    """What the clock said, which depends on what else the machine does."""
    seen = [
        f"{name} {middle(runs, 'rate'):.0f}/s p50 {middle(runs, 'p50_ms'):.1f} p99 {middle(runs, 'p99_ms'):.1f} ms"
        for name, runs in samples.items()
    ]
    return Figure(name=f"{workload.name}: by the clock", measured="; ".join(seen), target="none", holds=True)


def _added(stage: Stage, workload: Workload, field: str) -> list[Figure]:
    """What the gateway adds to the median: the replica itself is asked in turn with it."""
    say(workload.name)
    assert stage.nginx is not None
    samples = samples_of(workload, [stage.direct, stage.ours, stage.nginx], rounds=ROUNDS)
    direct = [getattr(run, field) for run in samples[stage.direct.name]]
    added = {
        target.name: [
            getattr(run, field) - base for run, base in zip(samples[target.name], direct, strict=True)
        ]
        for target in (stage.ours, stage.nginx)
    }
    ours = statistics.median(added[stage.ours.name])
    return [
        Figure(
            name=f"{workload.name}: added p50",
            measured=f"{ours:.2f} ms [{min(added[stage.ours.name]):.2f}-{max(added[stage.ours.name]):.2f}], nginx "
            f"{statistics.median(added[NGINX]):.2f}, direct {statistics.median(direct):.2f}",
            target=f"must {ADDED_MS_MUST:g} ms, aim {ADDED_MS_AIM:g} ms",
            holds=ours <= ADDED_MS_MUST,
        )
    ]


def _memory(targets: Sequence[Target]) -> list[Figure]:
    """Of one process that has had all of the load; the PSS counts a library's page by its share of who has it."""
    peer = next(target for target in targets if target.name == MEMORY_BOUND.peer)
    name = "memory of one process after the load"
    return [
        MEMORY_BOUND.figure(f"{name}, {kind}", [measured(targets[0].pid)], [measured(peer.pid)], "MB")
        for kind, measured in (("RSS", rss_mb), ("PSS", pss_mb))
    ]


def _memory_of_workers(stage: Stage) -> list[Figure]:
    """A worker's part of all that serves one port, after load: supervisor and nursery included, shared pages divided."""
    say(f"starting {WORKERS} workers of each")
    with workers(stage, WORKERS) as target:
        ours, own = _of_each_worker(target)
    other = litellm(
        stage.folder / "litellm-workers",
        upstream_port=stage.upstream_port,
        redis_url=stage.redis_url,
        workers=WORKERS,
    )
    with other as target:
        theirs, _ = _of_each_worker(target)
    figure = MEMORY_BOUND.figure(f"memory of a worker, of {WORKERS} after load (PSS)", [ours], [theirs], "MB")
    return [replace(figure, measured=f"{figure.measured}; a worker's own pages {own:.0f} MB")]


def _of_each_worker(target: Target) -> tuple[float, float]:
    """The whole family's memory by the number of workers, and what the largest process has alone; both in MB."""
    load(target, WARMING, requests=max(WARMING.concurrency, int(WARMING.requests * target.share)))
    time.sleep(SETTLE_S)
    return pss_mb(target.pid) / WORKERS, max(own_mb(pid) for pid in family(target.pid))


def _server_alone(stage: Stage) -> Figure:
    """The HTTP server without an application behind it."""
    with server_alone(stage.folder) as alone:
        runs = per_unit(UNARY, samples_of(UNARY, [alone], rounds=ROUNDS)[alone.name])
    return Figure(
        name="the HTTP server alone: CPU a request",
        measured=f"{statistics.median(runs):.1f} us [{runs[0]:.1f}-{runs[-1]:.1f}]",
        target="none",
        holds=True,
    )


def _times(share: float) -> str:
    return f"1/{1 / share:.3g}" if share < 1 else f"{share:.3g}x"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
