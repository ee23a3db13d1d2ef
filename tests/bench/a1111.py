"""A1111: what `POST /sdapi/v1/txt2img` takes more than the replica's own `POST /v1/image`, and its CPU.

Through the gateway in a process of its own: HTTP Basic, the model that the key has chosen (in Redis), routing, hold,
metering, the picture decoded, the durable record in PostgreSQL, base64. Requests alternate between the two ways on one
connection each, and the figure is the difference of their medians.

A painter is a replica that sends 20 steps 2 ms apart and then a picture that it has already: its own time hardly varies,
so what is added shows to a tenth of a millisecond. The engine makes real pictures of the bundled model. A picture of
512 x 512 is there to show what grows with the pixels: the gateway decodes each before it bills it, in a thread.
"""

import base64
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

from a1111_process import drawn
from processes import cpu_ns, started

from raymart_core.wire.image import IMAGE_PATH, ImageRequest
from raymart_core.wire.replica import encode
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.gateway.images.decoding import decodes
from support.figures import Figure
from support.scripted_replica import SECRET

PROCESS = Path(__file__).with_name("a1111_process.py")
STEPS = 20
MUST_MS = 5.0
WARMING = 5


def measure() -> Sequence[Figure]:
    """The painter with a small and a usual picture, then the engine."""
    with stores() as (database_url, redis_url):
        made = partial(compared, database_url=database_url, redis_url=redis_url)
        return [
            *made("painter", side=64, rounds=150),
            *made("engine", side=64, rounds=20),
            *made("painter", side=512, rounds=100, must=False),
            decoding(512),
        ]


@contextlib.contextmanager
def stores() -> Iterator[tuple[str, str]]:
    """URLs of a PostgreSQL and a Redis of this run."""
    with tempfile.TemporaryDirectory(prefix="raymart-bench-a1111-") as folder:
        database = EmbeddedPostgres(Path(folder) / "postgres")
        url = database.start()
        try:
            upgrade(url)
            with EmbeddedRedis(Path(folder) / "redis") as redis:
                yield url, redis.url
        finally:
            database.destroy()


@dataclass(slots=True)
class Way:
    """One way to a picture, and what each request on it took."""

    ask: Callable[[], None]
    pid: int
    """Of the process whose CPU is counted."""
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """Begin to count anew."""
        self.wall_ms.clear()
        self.cpu_ms.clear()

    def measure(self) -> None:
        """Ask once."""
        before, began = cpu_ns(self.pid), time.perf_counter()
        self.ask()
        self.wall_ms.append((time.perf_counter() - began) * 1e3)
        self.cpu_ms.append((cpu_ns(self.pid) - before) / 1e6)


def compared(
    kind: str, *, side: int, rounds: int, database_url: str, redis_url: str, must: bool = True
) -> Sequence[Figure]:
    """Both ways in turn, to a replica of `kind`."""
    with contextlib.ExitStack() as stack:
        replica, line = stack.enter_context(started([sys.executable, str(PROCESS), kind], core=1))
        arguments = [sys.executable, str(PROCESS), "gateway", database_url, redis_url, line.strip()]
        gateway, told = stack.enter_context(started(arguments, core=0))
        direct = Way(direct_asker(int(line), side=side), replica.pid)
        through = Way(gateway_asker(json.loads(told), side=side), gateway.pid)
        with on_core(1):
            for number in range(WARMING + rounds):
                if (
                    number == WARMING
                ):  # Keys, prepared statements, connections and the lease are there by now.
                    direct.forget()
                    through.forget()
                direct.measure()
                through.measure()
    return figures(f"{kind}, {side}x{side}", direct, through, must=must)


def figures(name: str, direct: Way, through: Way, *, must: bool) -> Sequence[Figure]:
    """The added time, and the gateway's CPU."""
    (low, middle, _), (low_alone, alone, _) = (
        statistics.quantiles(way.wall_ms, n=4) for way in (through, direct)
    )
    added_ms, cpu_ms = middle - alone, statistics.quantiles(through.cpu_ms, n=4)
    return (
        Figure(
            name=f"{name}: txt2img more than the replica alone",
            measured=f"{added_ms:.1f} ms ({middle:.1f} against {alone:.1f}; of the first quartiles {low - low_alone:.1f})",
            target=f"must <= {MUST_MS:.0f} ms" if must else "none",
            holds=added_ms <= MUST_MS or not must,
        ),
        Figure(
            name=f"{name}: CPU of the gateway for it",
            measured=f"{cpu_ms[1]:.2f} ms (of {len(through.cpu_ms)}, middle half {cpu_ms[0]:.2f} to {cpu_ms[2]:.2f})",
            target="none",
            holds=True,
        ),
    )


def decoding(side: int) -> Figure:
    """What the gateway's look at every pixel takes of that, alone."""
    picture = drawn(side, side)
    took_ms = []
    for _ in range(40):
        began = time.perf_counter()
        assert decodes(picture, "png", size=(side, side))
        took_ms.append((time.perf_counter() - began) * 1e3)
    return Figure(
        name=f"a picture of {side}x{side} decoded, nothing else",
        measured=f"{statistics.median(took_ms):.1f} ms (fastest {min(took_ms):.1f}; {len(picture) / 1e6:.2f} MB)",
        target="none",
        holds=True,
    )


def direct_asker(port: int, *, side: int) -> Callable[[], None]:
    """Asks the replica for a picture, as the gateway does."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    body = encode(
        ImageRequest(prompt="a red circle", width=side, height=side, steps=STEPS, seed=1, guidance=2.0)
    )

    def ask() -> None:
        connection.request("POST", IMAGE_PATH, body, {"Authorization": f"Bearer {SECRET}"})
        answer = connection.getresponse()
        lines = answer.read().splitlines()
        assert answer.status == 200
        assert len(lines) == STEPS + 2, lines[-1]

    return ask


def gateway_asker(told: dict[str, str], *, side: int) -> Callable[[], None]:
    """Asks the gateway for the same picture, as a client of AUTOMATIC1111 does: it chooses the model once."""
    connection = HTTPConnection("127.0.0.1", int(told["port"]), timeout=60)
    password = base64.b64encode(f"anybody:{told['key']}".encode()).decode()
    headers = {"Authorization": f"Basic {password}", "Content-Type": "application/json"}

    def post(path: str, content: dict[str, object]) -> None:
        connection.request("POST", f"/sdapi/v1/{path}", json.dumps(content), headers)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data

    post("options", {"sd_model_checkpoint": told["model"]})
    asked = {
        "prompt": "a red circle", "width": side, "height": side, "steps": STEPS, "seed": 1, "cfg_scale": 2,
    }  # fmt: skip
    return partial(post, "txt2img", asked)


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """This process on `core`, where there are several."""
    before = os.sched_getaffinity(0)
    if core in before and len(before) > 1:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
