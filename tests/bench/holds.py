"""Hold and record: CPU that the gateway spends on them per request, at 64 requests at once.

Two gateways of one code, each in a process of its own: one with leases and the usage sink, one whose gate and sink do
nothing. Sockets, HTTP, authentication, routing, metering and the interpreter's settings (the garbage collector's too)
are the same, and both keep their leases' and sink's idle tasks. Requests come over HTTP from another process, answers
from a replica written in C; these and PostgreSQL keep to core 1, the gateways to core 0.

CPU is schedstat's, of every thread of the gateway's process, so it holds all that hold and record bring with them: the
lease's growth and renewal, the batches, the wake-ups, the posting into the ledger. PostgreSQL's own CPU is not in it.
The gateways take turns in pairs of short rounds, in both orders; the figure is the median of the pairs' differences,
its range the middle half of them.
"""

import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway_load import Target, Workload, load
from processes import HERE, compiled_mock, on_core, started

from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from support.figures import Figure

PAIRS = 24
WORKLOAD = Workload(name="unary, C=64", mode="unary", concurrency=64, requests=1_500, tokens=16, pace_us=0)
WARM = 1_500
MUST_MS = 0.03


def measure() -> Sequence[Figure]:
    """Run the rounds on a server of their own."""
    with gateways() as (paid, free):
        for target in (paid, free):
            load(target, WORKLOAD, requests=WARM)
        differences, bases = [], []
        for number in range(PAIRS):
            order = (paid, free) if number % 2 else (free, paid)
            spent = {target.name: cost_ms(target) for target in order}
            differences.append(spent[paid.name] - spent[free.name])
            bases.append(spent[free.name])
    low, added, high = statistics.quantiles(differences, n=4)
    return [
        Figure(
            name="hold + record, C=64",
            measured=f"{added:.4f} ms a request ({low:.4f} to {high:.4f}), beside {statistics.median(bases):.3f} ms",
            target=f"must <= {MUST_MS} ms",
            holds=added <= MUST_MS,
        )
    ]


@contextlib.contextmanager
def gateways() -> Iterator[tuple[Target, Target]]:
    """The gateway that holds and records, and the one that does not."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-bench-holds-")))
        stack.enter_context(on_core(1))
        database = EmbeddedPostgres(folder / "postgres")
        url = database.start()
        stack.callback(database.destroy)
        upgrade(url)
        _, line = stack.enter_context(started([str(compiled_mock(folder))], core=1))
        paid, free = (
            stack.enter_context(gateway(money, [url, line.strip(), "2", money]))
            for money in ("ledger", "memory")
        )
        yield paid, free


@contextlib.contextmanager
def gateway(name: str, arguments: list[str]) -> Iterator[Target]:
    """A gateway process on core 0."""
    command = [sys.executable, str(HERE / "gateway_process.py"), *arguments]
    with started(command, core=0) as (process, line):
        yield Target(name=name, pid=process.pid, **json.loads(line))


def cost_ms(target: Target) -> float:
    """CPU of one request in a round."""
    return load(target, WORKLOAD, requests=WORKLOAD.requests).cpu_us / 1e3
