"""Subscriptions: 5,000 open in one process, its memory, and how long a tick takes from its hint to the last client.

The API is `raymart serve-api` with its PostgreSQL and Redis. This process holds the clients: 50 WebSockets of 5 people with
100 subscriptions each to one customer's balance, by two documents in turn. A tick is a grant of credit, then its hint over
Redis; the clock starts with the hint, before anything has been read, and stops when the 5,000th message is here and
parsed. Memory is the server's PSS once all have their first state and the ticks have passed.
"""

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import uvloop
from processes import cpu_ns
from progress import say

from raymart_graphql.app import create_app
from raymart_graphql.feeds.hints import CHANNEL, Kind, Topic, encoded
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.shared_state import make_redis
from support.api_server import Api, control_settings
from support.figures import Figure
from support.graphql_socket import Socket, connected

SOCKETS = int(os.environ.get("RAYMART_BENCH_SOCKETS", "50"))
PER_SOCKET = 100
TICKS = 12
MEMORY_MB_MAX = 600.0
TICK_S_MAX = 1.0
DOCUMENTS = (
    "subscription ($id: ID!) { balanceChanged(input: {organizationId: $id}) { posted { amount } available { amount } } }",
    "subscription Mine($id: ID!) { balanceChanged(input: {organizationId: $id}) { organizationId posted { amount currency } } }",
)


def measure() -> Sequence[Figure]:
    """Measure on servers of their own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-bench-subscriptions-")))
        folder.chmod(0o755)
        say("starting PostgreSQL, Redis and the API")
        postgres = EmbeddedPostgres(folder / "postgres")
        postgres.start()
        stack.callback(postgres.destroy)
        upgrade(postgres.owner_url)
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        settings = control_settings(postgres.runtime_url, redis_url=redis.url)
        server = stack.enter_context(served(settings))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        seen = runner.run(_measure(settings, server))
    opened = SOCKETS * PER_SOCKET
    return [
        Figure(
            name=f"memory of the API's process with {opened:,} open subscriptions",
            measured=f"{seen.memory_mb:.0f} MB PSS ({seen.empty_mb:.0f} MB before)",
            target=f"<= {MEMORY_MB_MAX:g} MB",
            holds=seen.memory_mb <= MEMORY_MB_MAX,
        ),
        Figure(
            name=f"a tick to all of {opened:,}, from its hint to the last client, of {TICKS}",
            measured=(
                f"median {statistics.median(seen.ticks_s):.2f} s, longest {max(seen.ticks_s):.2f} s,"
                f" CPU of the API {seen.cpu_s:.2f} s"
            ),
            target=f"<= {TICK_S_MAX:g} s",
            holds=statistics.median(seen.ticks_s) <= TICK_S_MAX,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was measured."""

    ticks_s: Sequence[float]
    cpu_s: float
    """Of the API, for one tick and what else it did until the next."""
    memory_mb: float
    empty_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The API's process."""

    pid: int
    port: int


@contextlib.contextmanager
def served(settings: ControlSettings) -> Iterator[Server]:
    """The API with `settings`, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "RAYMART_TOKEN_SECRET": settings.token_secret.get_secret_value(),
        "RAYMART_GRAPHQL_POINTS_PER_HOUR": "100000000",
        "RAYMART_LOG_LEVEL": "warning",
    }
    command = [str(Path(sys.executable).with_name("raymart")), "serve-api", "--port", str(port)]
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            assert process.poll() is None, "the API did not start"
            assert time.monotonic() < deadline, "the API is not there after a minute"
            time.sleep(0.1)
        yield Server(pid=process.pid, port=port)
    finally:
        process.kill()
        process.wait()


async def _measure(settings: ControlSettings, server: Server) -> Seen:
    app = create_app(settings)  # Not running: only what writes the market is used.
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(app.state.services.engine.dispose)
        http = await stack.enter_async_context(httpx.AsyncClient())
        api = Api(app, http, server.port)
        customer = await api.tenant()
        people = list(customer.people.values())
        empty_mb = pss_mb(server.pid)
        say(f"opening {SOCKETS} sockets")
        clients = [
            await stack.enter_async_context(connected(api, people[number % len(people)], max_queue=None))
            for number in range(SOCKETS)
        ]
        for ws in clients:
            await open_all(ws, customer.id)
        say("all have their first state")
        redis = make_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        ticks_s, before = [], cpu_ns(server.pid)
        for _ in range(TICKS):
            await asyncio.sleep(
                1.2
            )  # A topic is read once a second; a tick shall not wait for the one before.
            await api.credit(customer, 10**6)
            begun = time.perf_counter()
            await redis.publish(CHANNEL, encoded([Topic(Kind.BALANCE, customer.organization_id)]))
            await asyncio.gather(*(all_of(ws) for ws in clients))
            ticks_s.append(time.perf_counter() - begun)
        cpu_s = (cpu_ns(server.pid) - before) / 1e9 / TICKS
        return Seen(ticks_s=ticks_s, cpu_s=cpu_s, memory_mb=pss_mb(server.pid), empty_mb=empty_mb)


async def open_all(ws: Socket, organization_id: str) -> None:
    """Subscribe, and wait for the first state of each."""
    for number in range(PER_SOCKET):
        await ws.subscribe(DOCUMENTS[number % len(DOCUMENTS)], id_=str(number), id=organization_id)
    await all_of(ws)


async def all_of(ws: Socket) -> None:
    """One message for each subscription of the socket."""
    missing = {str(number) for number in range(PER_SOCKET)}
    async with asyncio.timeout(60):
        while missing:
            text = await ws.connection.recv()
            message = msgspec.json.decode(text)
            assert message["type"] == "next", message
            assert "errors" not in message["payload"], message
            missing.discard(message["id"])


def pss_mb(pid: int) -> float:
    """Memory of the process, shared pages counted in proportion."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"no Pss of {pid}")
