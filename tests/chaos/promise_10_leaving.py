"""A client that leaves stops the cost: 500 clients leave at one moment, and engines idle, bills end, holds go back.

A real gateway process with a real PostgreSQL, and clients on sockets of their own that disappear in mid-answer, half of
them by a reset. Some streams pause before that, so that what was delivered is known to the token; others are in full
flow; others wait for a whole answer. What the replica saw, what the clients have and what the tables say is compared.
"""

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from raymart_billing.connections import make_pool
from raymart_billing.ledger import trial_balance
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.chaos_load import GatewayProcess, gateways
from support.figures import Figure
from support.scripted_replica import Exchange, ScriptedReplica

CLIENTS = 500
IDLE_S_MAX = 1.0
SETTLED_S_MAX = 15.0
"""Leases go back some seconds after their last request."""
STEP_S = 0.05
PAUSING, FLOWING, WHOLE = 900, 800, 700
"""What `max_tokens` says to the replica: PAUSING + n for n tokens and then a pause."""


@dataclass(slots=True)
class Engine:
    """The replica's side of one request."""

    tokens: int = 0
    has_paused: bool = False
    idle_at: float = 0.0


@dataclass(slots=True)
class Replica:
    """The script, and what it noted, by the request's id as the gateway gave it."""

    engines: dict[UUID, Engine] = field(default_factory=dict)

    async def serve(self, exchange: Exchange) -> None:
        """Answer until the gateway hangs up."""
        engine = self.engines[_id_of(exchange.headers["x-request-id"])] = Engine()
        wanted = exchange.request.sampling.max_tokens
        exchange.prompt()
        while not exchange.gone.is_set():
            if engine.tokens == wanted - PAUSING:
                engine.has_paused = True
                await exchange.gone.wait()
                break
            exchange.step()
            engine.tokens += 1
            if wanted <= FLOWING:
                await asyncio.sleep(STEP_S)
        engine.idle_at = time.monotonic()


class Client(asyncio.Protocol):
    """A client that asks, reads, and leaves."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def ask(self, model: str, authorization: str) -> None:
        """Send the request."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": self.wanted,
            "stream": self.wanted != WHOLE,
        }
        payload = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(payload)}\r\n"
        self.transport.write(f"{head}authorization: {authorization}\r\n\r\n".encode() + payload)

    def leave(self, *, by_reset: bool) -> None:
        """Go, in one of the two ways."""
        if by_reset:
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def received(self) -> int:
        """Tokens."""
        return self.data.count(b"tok ")

    @property
    def request_id(self) -> UUID:
        """As a stream's head has it."""
        return _id_of(self.data.lower().split(b"x-request-id: ")[1].split(b"\r\n")[0].decode())


@dataclass(slots=True)
class Outcome:
    """What was found."""

    clients: int
    running: int = 0
    """Requests that an engine worked on when all left."""
    idle_s: float = 0.0
    """Until the last engine had stopped."""
    exact: int = 0
    paused: int = 0
    flowing_wrong: int = 0
    flowing_ahead: int = 0
    """The most tokens that a stream in full flow was billed for beyond what its client had read."""
    whole_wrong: int = 0
    not_cancelled: int = 0
    settled_s: float = 0.0
    is_balanced: bool = False


def measure(
    *, clients: int = CLIENTS, idle_s_max: float = IDLE_S_MAX, settled_s_max: float = SETTLED_S_MAX
) -> Sequence[Figure]:
    """Start a gateway, let `clients` leave it, and look."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-10-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            upgrade(server.owner_url)
            outcome = asyncio.run(_run(server.runtime_url, Path(folder) / "spill", clients=clients))
        finally:
            server.destroy()
    return _figures(outcome, idle_s_max=idle_s_max, settled_s_max=settled_s_max)


async def _run(url: str, directory: Path, *, clients: int) -> Outcome:
    outcome, noted = Outcome(clients), Replica()
    async with (
        ScriptedReplica(noted.serve) as replica,
        gateways(url, 1, replica=replica, directory=directory) as [gateway],
    ):
        crowd = await _crowd(gateway, noted, clients)
        outcome.running = sum(not engine.idle_at for engine in noted.engines.values())
        left_at = time.monotonic()
        for number, client in enumerate(crowd):
            client.leave(by_reset=number % 2 == 0)
        async with asyncio.timeout(60):
            while not all(engine.idle_at for engine in noted.engines.values()):
                await asyncio.sleep(0.005)
        outcome.idle_s = max(engine.idle_at for engine in noted.engines.values()) - left_at
        outcome.settled_s = await _settled(url, clients) - left_at
        await _compare(url, crowd, noted, outcome)
    return outcome


async def _crowd(gateway: GatewayProcess, noted: Replica, count: int) -> list[Client]:
    """Clients of every kind, all in the midst of their answers."""
    kinds = random.Random(10)
    loop = asyncio.get_running_loop()
    host, port = gateway.client.base_url.host, gateway.client.base_url.port
    crowd = []
    for number in range(count):
        wanted = (PAUSING + kinds.randint(1, 40), FLOWING, PAUSING + kinds.randint(1, 40), FLOWING, WHOLE)
        _, client = await loop.create_connection(
            lambda wanted=wanted[number % 5]: Client(wanted),
            host,
            port,
        )
        client.ask(gateway.model, gateway.client.headers["authorization"])
        crowd.append(client)
    streams = [client for client in crowd if client.wanted != WHOLE]
    pausing = [client for client in streams if client.wanted > PAUSING]
    async with asyncio.timeout(120):
        while not (
            len(noted.engines) == count
            and all(client.received == client.wanted - PAUSING for client in pausing)
            and all(client.received for client in streams)
            and all(engine.tokens for engine in noted.engines.values())
        ):
            await asyncio.sleep(0.02)
    return crowd


async def _settled(url: str, clients: int) -> float:
    """When every request had ended and no money was held any more."""
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection, asyncio.timeout(90):
        while True:
            cursor = await connection.execute(
                "select (select count(*) from request),"
                " (select coalesce(sum(debits_pending), 0)::bigint from ledger_account),"
                " (select count(*) from usage_record where posted_at is null)"
            )
            ended, held, unposted = await cursor.fetchone()
            if ended >= clients and not held and not unposted:
                return time.monotonic()
            await asyncio.sleep(0.05)


async def _compare(url: str, crowd: Sequence[Client], noted: Replica, outcome: Outcome) -> None:
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection:
        cursor = await connection.execute("select id, tokens_completion from usage_record")
        billed = dict(await cursor.fetchall())
        cursor = await connection.execute("select count(*) from request where state <> 'cancelled'")
        [outcome.not_cancelled] = await cursor.fetchone()
    streamed = {client.request_id: client for client in crowd if client.wanted != WHOLE}
    for request_id, engine in noted.engines.items():
        tokens, client = billed.get(request_id, 0), streamed.get(request_id)
        if client is None:
            outcome.whole_wrong += not 0 < tokens <= engine.tokens
        elif engine.has_paused:
            outcome.paused += 1
            outcome.exact += tokens == client.received == engine.tokens
        else:
            outcome.flowing_wrong += not client.received <= tokens <= engine.tokens
            outcome.flowing_ahead = max(outcome.flowing_ahead, tokens - client.received)
    engine = make_engine(url, pool_size=1)
    async with session_scope(make_sessions(engine)) as session:
        outcome.is_balanced = (await trial_balance(session)).balanced
    await engine.dispose()


def _figures(outcome: Outcome, *, idle_s_max: float, settled_s_max: float) -> Sequence[Figure]:
    return [
        Figure(
            name=f"{outcome.clients} clients leave at once: all engines idle",
            measured=f"{outcome.running} were at work, the last stopped after {outcome.idle_s:.2f} s",
            target=f"<= {idle_s_max:g} s",
            holds=outcome.running == outcome.clients and outcome.idle_s <= idle_s_max,
        ),
        Figure(
            name="streams that paused: billed = delivered = made",
            measured=f"{outcome.exact} of {outcome.paused}, to the token",
            target="all",
            holds=outcome.exact == outcome.paused > 0,
        ),
        Figure(
            name="streams in full flow: read <= billed <= made",
            measured=f"{outcome.flowing_wrong} wrong, {outcome.flowing_ahead} tokens on the way at most",
            target="0",
            holds=outcome.flowing_wrong == 0,
        ),
        Figure(
            name="whole answers: billed, and never more than was made",
            measured=f"{outcome.whole_wrong} wrong",
            target="0",
            holds=outcome.whole_wrong == 0,
        ),
        Figure(
            name="requests that are not cancelled; holds that are stuck",
            measured=f"{outcome.not_cancelled}; none held after {outcome.settled_s:.1f} s",
            target=f"0; <= {settled_s_max:g} s",
            holds=outcome.not_cancelled == 0 and outcome.settled_s <= settled_s_max,
        ),
        Figure(
            name="the books balance",
            measured="yes" if outcome.is_balanced else "no",
            target="yes",
            holds=outcome.is_balanced,
        ),
    ]


def _id_of(shown: str) -> UUID:
    return UUID(hex=shown.removeprefix("req_"))
