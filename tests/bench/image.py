"""Image: the bundled model's picture of 64x64 in 20 steps on one core, and what the replica's port adds to the engine.

A replica, and beside it a process with the engine alone, both pinned to one core with one thread, asked in turn by this
process. Wall-clock time depends on what else the machine does; CPU time of the process per picture (schedstat) hardly
does, and on a core of its own it is the time that a picture takes. Both are printed; the targets are put to CPU time.
"""

import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from processes import cpu_ns

from raymart_core.wire.image import IMAGE_PATH, ImageMade, ImageRequest, decode_image_event
from raymart_core.wire.replica import encode
from support.figures import Figure
from support.image_engine import REVISION, TREE_SHA256, request, spec

ROUNDS = 30
MUST_S = 1.0


def measure() -> Sequence[Figure]:
    """One process with the engine, one with a replica, on the same core, one request at a time."""
    core = min(os.sched_getaffinity(0))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    engine = subprocess.Popen(
        [sys.executable, __file__],
        env=_importing(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    replica = subprocess.Popen(_replica_command(), env=environment, stdout=subprocess.PIPE, text=True)
    try:
        for process in (engine, replica):
            os.sched_setaffinity(process.pid, {core})
        told = json.loads(_line(replica))
        port = http.client.HTTPConnection(told["address"], timeout=60)
        _line(engine)
        alone, through = _Rounds(engine.pid), _Rounds(replica.pid)
        for seed in range(ROUNDS):
            alone.add(partial(_ask_engine, engine, seed))
            through.add(partial(_ask_port, port, told["secret"], seed))
    finally:
        for process in (engine, replica):
            process.kill()
            process.wait()
    return _figures(alone, through)


class _Rounds:
    """What pictures took: by the clock, and of the CPU of process `pid`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    def add(self, ask: Callable[[], None]) -> None:
        before, began = cpu_ns(self._pid), time.perf_counter()
        ask()
        self.wall_s.append(time.perf_counter() - began)
        self.cpu_s.append((cpu_ns(self._pid) - before) / 1e9)


def _figures(alone: _Rounds, through: _Rounds) -> Sequence[Figure]:
    cpu_s, wall_s = statistics.median(through.cpu_s), statistics.median(through.wall_s)
    added_ms = (cpu_s - statistics.median(alone.cpu_s)) * 1000
    by_the_clock = f"{wall_s * 1000:.0f} ms by the clock, fastest {min(through.wall_s) * 1000:.0f} ms"
    return (
        Figure(
            name="a picture through the replica's port, CPU of the replica",
            measured=f"{cpu_s * 1000:.0f} ms ({by_the_clock}; median of {ROUNDS})",
            target=f"must <= {MUST_S:.0f} s",
            holds=cpu_s <= MUST_S,
        ),
        Figure(
            name="of that, what the engine alone does not take",
            measured=f"{added_ms:.1f} ms",
            target="aim <= 5 ms",
            holds=added_ms <= 5.0,
        ),
    )


def _ask_engine(engine: "subprocess.Popen[str]", seed: int) -> None:
    assert engine.stdin is not None
    engine.stdin.write(f"{seed}\n")
    engine.stdin.flush()
    _line(engine)


def _ask_port(port: http.client.HTTPConnection, secret: str, seed: int) -> None:
    port.request("POST", IMAGE_PATH, body=encode(_asked(seed)), headers={"Authorization": f"Bearer {secret}"})
    answer = port.getresponse()
    lines = answer.read().splitlines()
    assert answer.status == 200
    assert isinstance(decode_image_event(lines[-2]), ImageMade)


def _asked(seed: int) -> ImageRequest:
    return request(seed=seed)


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"process {process.args} ended with {process.poll()}"
    return line


def _replica_command() -> list[str]:
    facts = {"--engine": "diffusers", "--source": "bundled:demo-image", "--sha256": TREE_SHA256}
    facts |= {
        "--revision": REVISION,
        "--model": "raymart/demo-image",
        "--context-length": "24",
        "--slots": "1",
    }
    return [sys.executable, "-m", "raymart_serve.replica", *[word for pair in facts.items() for word in pair]]


def _importing(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "PYTHONPATH": str(Path(__file__).parents[1])}


async def _serve_engine() -> None:
    """In a process of its own: a seed in, a word out when its picture is made."""
    from raymart_serve.engines.diffusers import DiffusersEngine

    engine = DiffusersEngine(spec())
    await engine.load(lambda _: None)
    await engine.warm_up()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        async with engine.make_images(_asked(int(line))) as events:
            async for _ in events:
                pass
        print("made", flush=True)


if __name__ == "__main__":
    asyncio.run(_serve_engine())
