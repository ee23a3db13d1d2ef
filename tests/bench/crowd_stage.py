"""A marketplace process, a PostgreSQL and a Redis of its own and a crowd of simulated nodes, for the benches `heartbeats` and `storm`."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions
from support.crowd_nodes import enrol_crowd
from support.link_market import Supply, make_supply

HERE = Path(__file__).parent
_LINKED_TIMEOUT_S = 300.0


class CrowdStage:
    """Start the marketplace, let the crowd come, ask how many are linked, kill the marketplace, start it again."""

    def __init__(
        self, postgres: EmbeddedPostgres, redis: EmbeddedRedis, supply: Supply, *, seed: str, nodes: int
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port: int = probe.getsockname()[1]
        assert postgres.pid is not None
        assert redis.pid is not None
        self.database_pid, self.redis_pid = postgres.pid, redis.pid
        self._redis_url = redis.url
        self._database_url = postgres.url
        self._supply = supply
        self._seed = seed
        self.nodes = nodes
        self._processes: list[subprocess.Popen[str]] = []
        self.market: subprocess.Popen[str] | None = None
        self.crowd: subprocess.Popen[str] | None = None

    def start_market(self) -> None:
        """Returns when it listens."""
        self.market = self._start(
            "crowd_market.py", self._database_url, self._redis_url, self._port, self._supply.model_slug
        )

    def kill_market(self) -> None:
        """SIGKILL: every link breaks at once."""
        assert self.market is not None
        self.market.kill()
        self.market.wait()

    def start_crowd(self) -> None:
        """Returns when every node has begun to dial."""
        self.crowd = self._start(
            "crowd.py", self._port, self.nodes, self._supply.model_slug, self._supply.digest, self._seed
        )

    def tell_telemetry(self) -> None:
        """Every node sends telemetry from now on."""
        assert self.crowd is not None
        self.crowd.send_signal(signal.SIGUSR1)

    def wait_for(self, what: str, *, every_s: float = 0.25) -> float:
        """Seconds until all nodes are "linked", have "endpoints" in routing, or have sent "telemetry"."""
        began_at = time.monotonic()
        count = 0
        while count < self.nodes:
            # One that has its hands full with the crowd answers late, which is not what is measured.
            with contextlib.suppress(TimeoutError):
                count = self.count(what)
            if time.monotonic() - began_at > _LINKED_TIMEOUT_S:
                raise TimeoutError(f"{count} of {self.nodes} nodes {what} after {_LINKED_TIMEOUT_S} s")
            time.sleep(every_s)
        return time.monotonic() - began_at

    def count(self, what: str) -> int:
        """How many nodes are "linked", have "endpoints" in routing, or have sent "telemetry"."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/crowd", timeout=10) as answer:
            counts: dict[str, int] = json.load(answer)
        return counts[what]

    def _start(self, script: str, *arguments: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        process = subprocess.Popen(
            [sys.executable, HERE / script, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._processes.append(process)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"{script} did not start")
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@contextlib.contextmanager
def crowd_stage(nodes: int) -> Iterator[CrowdStage]:
    """A marketplace that listens, whose database knows `nodes` nodes; none has dialled yet."""
    with tempfile.TemporaryDirectory(prefix="raymart-bench-") as directory:
        postgres = EmbeddedPostgres(Path(directory) / "pg")
        redis = EmbeddedRedis(Path(directory) / "redis")
        try:
            redis.start()
            upgrade(postgres.start())
            seed = new_id().hex
            supply = asyncio.run(_furnish(postgres.url, seed, nodes))
            with CrowdStage(postgres, redis, supply, seed=seed, nodes=nodes) as stage:
                stage.start_market()
                yield stage
        finally:
            redis.stop()
            postgres.destroy()


async def _furnish(database_url: str, seed: str, nodes: int) -> Supply:
    engine = make_engine(database_url, pool_size=2)
    try:
        supply = await make_supply(make_sessions(engine))
        await enrol_crowd(supply, seed=seed, nodes=nodes)
        return supply
    finally:
        await engine.dispose()


def children_of(pid: int) -> list[int]:
    """The process and all that it started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
    return found
