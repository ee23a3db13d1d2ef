"""Hold and record: CPU that the gateway spends on them per request, at 64 requests at once.

The same gateway twice, with leases and usage sink, and with a gate and sink that do nothing; rounds alternate, the
figure is the median of the rounds' differences. CPU is schedstat's, of every thread of the gateway's process; requests
come over HTTP from another process, answers from a C replica.
"""

import contextlib
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gateway import HERE, Workload, cpu_ns, gateway, load, started

from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from support.figures import Figure

ROUNDS = 9
WORKLOAD = Workload(name="unary, C=64", mode="unary", concurrency=64, requests=4_000, tokens=16, pace_us=0)
MUST_MS = 0.03


def measure() -> Sequence[Figure]:
    """Run the rounds on a server of their own."""
    compiler = shutil.which("cc")
    assert compiler is not None, "the bench needs a C compiler (cc)"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-bench-holds-")))
        mock = folder / "replica_mock"
        subprocess.run([compiler, "-O2", "-o", mock, HERE / "replica_mock.c"], check=True)
        database = EmbeddedPostgres(folder / "postgres")
        url = database.start()
        stack.callback(database.destroy)
        upgrade(url)
        _, line = stack.enter_context(started([str(mock)], core=1))
        paid, free = (
            stack.enter_context(gateway(money, [url, line.strip(), "2", "bare", money]))
            for money in ("ledger", "memory")
        )
        for target in (paid, free):
            load(target, WORKLOAD, requests=1_000)
        differences, bases = [], []
        for _ in range(ROUNDS):
            spent = {}
            for target in (paid, free):
                before = cpu_ns(target.pid)
                result = load(target, WORKLOAD, requests=WORKLOAD.requests)
                spent[target.name] = (cpu_ns(target.pid) - before) / 1e6 / result["requests"]
                assert result["good"] == result["requests"], f"{target.name}: {result}"
            differences.append(spent["ledger"] - spent["memory"])
            bases.append(spent["memory"])
    added, base = statistics.median(differences), statistics.median(bases)
    return [
        Figure(
            name="hold + record, C=64",
            measured=f"{added:.4f} ms a request ({min(differences):.4f}-{max(differences):.4f}), beside {base:.3f} ms",
            target=f"must <= {MUST_MS} ms",
            holds=added <= MUST_MS,
        )
    ]
