"""What the gateways of the bench are asked, and what each request cost them: CPU of the process, latencies of the client."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from processes import HERE, cpu_ns, pinned

IDLE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the load generator sends."""

    name: str
    mode: str
    """"unary" or "stream"."""
    concurrency: int
    requests: int
    tokens: int
    pace_us: int = 0
    rate: float = 0.0
    """Requests a second, sent at their times whatever became of the others; 0 sends each as soon as one has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A gateway under measurement."""

    name: str
    pid: int
    port: int
    key: str = "sk-bench"
    model: str = "mock"
    share: float = 1.0
    """Of a workload's requests: who is slow is asked less, so that a run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of a workload against one target."""

    requests: int
    cpu_us: float
    """Of the gateway, a request, without what it does when nobody asks."""
    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    """Until the first byte of the body."""
    rate: float
    """Requests a second."""


def measure(
    workload: Workload, targets: Sequence[Target], *, rounds: int, share: float = 1.0
) -> dict[str, list[Sample]]:
    """Run `workload` on each target in turn, `rounds` times, after a run to warm up; the samples by the target's name."""
    samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
    idle = idle_shares(targets)
    for target in targets:
        warm = max(workload.concurrency, int(min(workload.requests, 400) * share * target.share))
        load(target, workload, requests=warm, idle=idle)
    for _ in range(rounds):
        for target in targets:
            requests = max(int(workload.requests * share * target.share), workload.concurrency)
            samples[target.name].append(load(target, workload, requests=requests, idle=idle))
    return samples


def idle_shares(targets: Sequence[Target]) -> dict[str, float]:
    """What each does of itself, of a core: offers read again, leases renewed.

    On a busy machine a run lasts longer and has more of it: 15 ms a second are 75 us a request at 200 requests a second.
    """
    before, began_at = [cpu_ns(target.pid) for target in targets], time.monotonic()
    time.sleep(IDLE_S)
    lasted_ns = (time.monotonic() - began_at) * 1e9
    return {
        target.name: (cpu_ns(target.pid) - spent) / lasted_ns
        for target, spent in zip(targets, before, strict=True)
    }


def load(
    target: Target, workload: Workload, *, requests: int, idle: Mapping[str, float] | None = None
) -> Sample:
    """Send `requests`. Raises: AssertionError when one failed, or tokens of a stream are missing."""
    arguments = [
        target.port, target.key, target.model, workload.concurrency, requests, workload.tokens, workload.pace_us,
        workload.mode, workload.rate,
    ]  # fmt: skip
    command = pinned([sys.executable, str(HERE / "load.py"), *map(str, arguments)], core=1)
    share = 0.0 if idle is None else idle[target.name]
    before, began_at = cpu_ns(target.pid), time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    spent_ns, lasted_s = cpu_ns(target.pid) - before, time.monotonic() - began_at
    seen = json.loads(done.stdout)
    assert seen["good"] == requests, f"{target.name}: {seen}"
    if workload.mode == "stream":
        assert seen["events"] >= requests * workload.tokens, f"{target.name} swallowed tokens: {seen}"
    return Sample(
        requests=requests,
        cpu_us=max(0.0, spent_ns / 1e3 - share * lasted_s * 1e6) / requests,
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
        first_p50_ms=seen["first_p50_ms"],
        rate=requests / seen["elapsed_s"],
    )


def middle(samples: Sequence[Sample], field: str) -> float:
    """The median of one field."""
    return statistics.median(getattr(sample, field) for sample in samples)
