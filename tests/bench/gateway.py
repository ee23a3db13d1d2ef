"""Measure the gateway: CPU per request and per streamed chunk, against a C replica, interleaved, medians.

CPU time is the sum of /proc/PID/task/*/schedstat of the gateway's process, which the machine's other work does not
touch; wall-clock figures are indicative only. The gateway has core 0, replica, PostgreSQL and load generator core 1.
Method: docs/benchmarks.md. Usage: run.py [--rounds N] [--endpoints N] [--quick]
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade

HERE = Path(__file__).parent
TESTS = HERE.parent
START_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the load generator sends."""

    name: str
    mode: str
    concurrency: int
    requests: int
    tokens: int
    pace_us: int


WORKLOADS = (
    Workload(name="unary, 16 tokens", mode="unary", concurrency=8, requests=2_000, tokens=16, pace_us=0),
    Workload(name="unary, 100 tokens", mode="unary", concurrency=8, requests=1_500, tokens=100, pace_us=0),
    Workload(name="stream, 200 x 10 ms", mode="stream", concurrency=16, requests=48, tokens=200, pace_us=10_000),
    Workload(name="stream, C=200, 100 x 20 ms", mode="stream", concurrency=200, requests=400, tokens=100, pace_us=20_000),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A gateway under measurement."""

    name: str
    pid: int
    port: int
    key: str
    model: str


def main() -> None:
    """Build, start, measure, print, stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--endpoints", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    options = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("the bench reads /proc/PID/task/*/schedstat and needs Linux")
    compiler = shutil.which("cc") or sys.exit("the bench needs a C compiler (cc)")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-bench-")))
        mock = directory / "replica_mock"
        subprocess.run([compiler, "-O2", "-o", mock, HERE / "replica_mock.c"], check=True)
        database = EmbeddedPostgres(directory / "postgres")
        url = database.start()
        stack.callback(database.destroy)
        upgrade(url)
        _, line = stack.enter_context(started([str(mock)], core=1))
        targets = [
            stack.enter_context(gateway(name, [url, line.strip(), str(options.endpoints), *variant]))
            for name, *variant in (
                ("gateway in FastAPI", "fastapi", "ledger"),
                ("gateway, bare ASGI", "bare", "ledger"),
                ("bare ASGI, no ledger", "bare", "memory"),
                ("uvicorn alone", "static", "memory"),
            )
        ]
        print(header(options.endpoints))
        rounds = 1 if options.quick else options.rounds
        for workload in WORKLOADS:
            measure(workload, targets, rounds=rounds, share=0.1 if options.quick else 1.0)


def header(endpoints: int) -> str:
    """What was measured where."""
    python = platform.python_version()
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {python}; {endpoints} endpoints in routing\n"
        f"\n| workload | target | requests | CPU us/request [min-max] | CPU us/chunk | p50 ms | p99 ms | requests/s |"
        f"\n|---|---|---|---|---|---|---|---|"
    )


def measure(workload: Workload, targets: list[Target], *, rounds: int, share: float) -> None:
    """Run `workload` on each target in turn, `rounds` times, and print a line for each."""
    requests = max(int(workload.requests * share), workload.concurrency)
    samples: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
    if workload.mode == "stream":
        targets = [target for target in targets if target.name != "uvicorn alone"]
        samples.pop("uvicorn alone")
    for target in targets:  # Warm: keys cached, connections open.
        load(target, workload, requests=workload.concurrency * 2)
    for _ in range(rounds):
        for target in targets:
            before = cpu_ns(target.pid)
            result = load(target, workload, requests=requests)
            result["cpu_us"] = (cpu_ns(target.pid) - before) / 1e3 / result["requests"]
            assert result["good"] == result["requests"], f"{target.name}: {result}"
            samples[target.name].append(result)
    for name, results in samples.items():
        print(table_line(workload, name, results), flush=True)


def table_line(workload: Workload, name: str, results: list[dict[str, float]]) -> str:
    """Medians over the rounds."""

    def middle(key: str) -> float:
        return statistics.median(result[key] for result in results)

    cpu = [result["cpu_us"] for result in results]
    per_chunk = f"{middle('cpu_us') / workload.tokens:.1f}" if workload.mode == "stream" else ""
    rate = statistics.median(result["requests"] / result["elapsed_s"] for result in results)
    return (
        f"| {workload.name} | {name} | {sum(int(result['requests']) for result in results)}"
        f" | {middle('cpu_us'):.0f} [{min(cpu):.0f}-{max(cpu):.0f}] | {per_chunk}"
        f" | {middle('p50_ms'):.2f} | {middle('p99_ms'):.2f} | {rate:.0f} |"
    )


def load(target: Target, workload: Workload, *, requests: int) -> dict[str, float]:
    """Send `requests` and return the generator's figures."""
    arguments = [
        target.port, target.key, target.model, workload.concurrency, requests, workload.tokens, workload.pace_us,
        workload.mode,
    ]  # fmt: skip
    command = pinned([sys.executable, str(HERE / "load.py"), *map(str, arguments)], core=1)
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def cpu_ns(pid: int) -> int:
    """CPU time of every thread of `pid` so far, in nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


@contextlib.contextmanager
def gateway(name: str, arguments: list[str]) -> Iterator[Target]:
    """A gateway process on core 0."""
    command = [sys.executable, str(HERE / "gateway_process.py"), *arguments]
    with started(command, core=0) as (process, line):
        yield Target(name=name, pid=process.pid, **json.loads(line))


@contextlib.contextmanager
def started(command: list[str], *, core: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs until the block ends, and the first line that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    process = subprocess.Popen(pinned(command, core=core), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{command[0]} did not start")
        yield process, line
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pinned(command: list[str], *, core: int) -> list[str]:
    """`command` on one core, where the machine has two and the tool to say so."""
    if (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(core), *command]


if __name__ == "__main__":
    main()
