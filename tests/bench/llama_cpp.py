"""llama.cpp through the whole path against xllamacpp alone, tokens a second of 4 parallel streams.

Whole path: customer over HTTP, gateway (key, lease, routing, metering, durable record), the replica's port, engine. Alone:
the library's own streaming chat calls in 4 threads, nothing else in the process. Both read one file with one computing
thread and 4 slots, and the same greedy prompts give the same tokens. Rounds alternate; the figure is the median ratio.

The bundled demo model makes a token in a quarter of a millisecond, so that everything around it shows at its largest; no
model that is sold is as small. The other has random weights and ten times the size, still far below a real one.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from processes import pinned, started

from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_serve.models import resolve
from support.figures import Figure
from support.gguf_model import random_model

HERE = Path(__file__).parent
STREAMS = 4
DEMO = ("bundled:demo-llm.gguf", "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3")


def measure() -> Sequence[Figure]:
    """Both models, each on both ways."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-bench-llama-")))
        database = EmbeddedPostgres(folder / "postgres")
        url = database.start()
        stack.callback(database.destroy)
        upgrade(url)
        demo = resolve(*DEMO)
        small = random_model(demo, folder / "small.gguf", layers=8, hidden=512, feed_forward=1408)
        return [
            compared("a model of 25 million parameters", small, url, requests=4, rounds=7, tokens=64),
            compared("the demo model, 2.4 million", demo, url, requests=40, rounds=7, tokens=96, must=None),
        ]


def compared(
    name: str, path: Path, url: str, *, requests: int, rounds: int, tokens: int, must: float | None = 0.9
) -> Figure:
    """Tokens a second on both ways, in turn."""
    with alone(path) as direct, whole_path(path, url) as through:
        asked = {"streams": STREAMS, "requests": requests, "tokens": tokens}
        for way in (direct, through):
            rate(way, asked | {"requests": 1})
        pairs = [(rate(direct, asked), rate(through, asked)) for _ in range(rounds)]
    ratios = sorted(through / direct for direct, through in pairs)
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    ratio = statistics.median(ratios)
    measured = (
        f"{ratio:.0%} ({ratios[0]:.0%} to {ratios[-1]:.0%}; {medians[1]:.0f} of {medians[0]:.0f} tokens/s)"
    )
    # Of a token, on the two cores together: what the way around the engine adds to it.
    added_us = (1 / medians[1] - 1 / medians[0]) * 1e6
    target = "none: it shows what is around a token" if must is None else f"must be at least {must:.0%}"
    return Figure(
        name=f"4 streams, {name}",
        measured=f"{measured}, {added_us:.0f} us more a token",
        target=target,
        holds=must is None or ratio >= must,
    )


Way = subprocess.Popen[str]


def rate(way: Way, asked: dict[str, int]) -> float:
    """Have a worker send the requests; tokens a second that arrived."""
    assert way.stdin is not None
    assert way.stdout is not None
    way.stdin.write(json.dumps(asked) + "\n")
    way.stdin.flush()
    answer = json.loads(way.stdout.readline())
    return float(answer["tokens"] / answer["seconds"])


@contextlib.contextmanager
def alone(path: Path) -> Iterator[Way]:
    """The library in a process of its own, on core 1."""
    with worker(["alone", str(path)], core=1) as way:
        yield way


@contextlib.contextmanager
def whole_path(path: Path, url: str) -> Iterator[Way]:
    """A replica on core 1; gateway and customers on core 0."""
    command = [sys.executable, str(HERE / "llama_cpp_worker.py"), "replica", str(path)]
    with contextlib.ExitStack() as stack:
        _, port = stack.enter_context(started(command, core=1))
        gateway = [sys.executable, str(HERE / "gateway_process.py"), url, port.strip(), "1", "ledger"]
        _, line = stack.enter_context(started(gateway, core=0))
        yield stack.enter_context(worker(["through", line.strip()], core=0))


@contextlib.contextmanager
def worker(arguments: list[str], *, core: int) -> Iterator[Way]:
    """A process of `llama_cpp_worker` that waits for requests."""
    command = pinned([sys.executable, str(HERE / "llama_cpp_worker.py"), *arguments], core=core)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as way:
        try:
            yield way
        finally:
            way.terminate()
