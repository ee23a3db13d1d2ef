"""The gateway's bench on its stage: the API as in production with its PostgreSQL and Redis, the replica in C, nginx.

The measured processes have core 0, all else core 1.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from api_market import Market, make_market
from gateway_load import Target
from nginx_peer import nginx, nginx_program
from processes import HERE, compiled_mock, on_core, started

from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade

ENDPOINTS = 50
OURS = "Raymart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is measured, and where what it needs listens."""

    folder: Path
    market: Market
    ours: Target
    nginx: Target | None
    """None where it could not be had."""
    direct: Target
    """The replica itself, as an OpenAI server."""
    database_url: str
    redis_url: str

    @property
    def upstream_port(self) -> int:
        """Of the replica."""
        return self.direct.port


@contextlib.contextmanager
def gateway_stage(*, endpoints: int = ENDPOINTS) -> Iterator[Stage]:
    """Servers of its own, for the block."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as another user where we are root.
        with on_core(1):
            database = EmbeddedPostgres(folder / "postgres")
            database.start()
            stack.callback(database.destroy)
            upgrade(database.owner_url)
            redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        market = make_market(database.runtime_url, endpoints=endpoints)
        yield stack.enter_context(
            measured(folder, market, database_url=database.runtime_url, redis_url=redis.url)
        )


@contextlib.contextmanager
def measured(folder: Path, market: Market, *, database_url: str, redis_url: str) -> Iterator[Stage]:
    """The replica, the API and nginx before a database that has `market`. `folder` is for their files."""
    with contextlib.ExitStack() as stack:
        mock = [str(compiled_mock(folder)), market.revision]
        upstream, line = stack.enter_context(started(mock, core=1))
        upstream_port = int(line)
        ours = stack.enter_context(
            api(folder, market, upstream_port=upstream_port, database_url=database_url, redis_url=redis_url)
        )
        program = nginx_program()
        peer = None
        if program is not None:
            peer = stack.enter_context(nginx(program, folder / "nginx", upstream_port=upstream_port))
        yield Stage(
            folder=folder,
            market=market,
            ours=ours,
            nginx=peer,
            direct=Target(name="direct", pid=upstream.pid, port=upstream_port),
            database_url=database_url,
            redis_url=redis_url,
        )


@contextlib.contextmanager
def api(
    folder: Path, market: Market, *, upstream_port: int, database_url: str, redis_url: str
) -> Iterator[Target]:
    """The API, with `market` in routing."""
    environment = _environment(folder, database_url=database_url, redis_url=redis_url)
    command = [sys.executable, str(HERE / "api_process.py"), str(upstream_port), market.text()]
    with started(command, core=0, environment=environment, log=folder / "api.log") as (process, line):
        yield Target(name=OURS, pid=process.pid, port=int(line), key=market.key, model=market.model)


@contextlib.contextmanager
def workers(stage: Stage, count: int) -> Iterator[Target]:
    """So many workers on one port, ready, with the stage's market in routing; by the supervisor's process id."""
    folder = stage.folder / "workers"
    folder.mkdir()
    environment = _environment(folder, database_url=stage.database_url, redis_url=stage.redis_url)
    script = str(HERE / "api_workers.py")
    command = [sys.executable, script, str(count), str(stage.upstream_port), stage.market.text()]
    with started(command, core=0, environment=environment, log=folder / "api.log") as (process, line):
        assert process.stdout is not None
        for _ in range(count - 1):
            process.stdout.readline()
        market = stage.market
        yield Target(name=OURS, pid=process.pid, port=int(line), key=market.key, model=market.model)


@contextlib.contextmanager
def server_alone(folder: Path) -> Iterator[Target]:
    """The HTTP server of the API with an application that reads the body and answers a constant."""
    environment = _environment(folder, database_url="postgresql://nobody", redis_url="redis://nobody")
    command = [sys.executable, str(HERE / "api_process.py")]
    with started(command, core=0, environment=environment, log=folder / "server.log") as (process, line):
        yield Target(name="server alone", pid=process.pid, port=int(line))


def _environment(folder: Path, *, database_url: str, redis_url: str) -> dict[str, str]:
    data_dir = folder / "data"
    data_dir.mkdir(exist_ok=True)
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "BROKER_URL": redis_url,
        "RAYMART_TOKEN_SECRET": "7f" * 32,
        "RAYMART_BENCHMARKS": "false",
        "RAYMART_DATA_DIR": str(data_dir),
    }
