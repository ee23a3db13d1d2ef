"""Page: CPU of 50 usage rows with provider and model through GraphQL, beside the equal SQL.

Both answer one customer with the same bytes of JSON, from the same PostgreSQL, in this process, one after the other:

- GraphQL: the whole ASGI app called without a socket, as a POST with a person's access token. Routing, body, token,
  membership, limits, the cached document, the operation, its statements through SQLAlchemy, and the JSON.
- SQL: one prepared statement that joins usage, revision, model and provider, run by psycopg (binary wheel, async) on an
  open connection in autocommit; its tuples become the same nested dictionaries, ids and amounts and times written as
  the API writes them, and msgspec encodes them.

CPU is that of this process, every thread of it, plus that of PostgreSQL's processes (schedstat of all of them): the
figure is the ratio of these sums, and the part of this process alone is printed beside it. Rounds of each alternate; the
figure is the median of the rounds' ratios, its range the middle half of them.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg
import uvloop
from processes import cpu_ns
from progress import say

from raymart_core.ids import Prefix, show
from raymart_graphql.app import create_app
from raymart_graphql.relay import make_cursor
from raymart_graphql.services import running
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.gateway.collector import rare_collections
from support.api_server import Api, control_settings
from support.figures import Figure

ROWS = 50
SELLERS = 8
"""Each with a model of its own; the page's rows are spread over them."""
ROUNDS = 30
PER_ROUND = 20
WARM = 60
MUST, AIM = 12.0, 6.0

DOCUMENT = """
query Page($id: ID!) {
  organization(id: $id) {
    usageRecords(first: 50) {
      nodes {
        id createdAt exact
        usage { tokensPrompt tokensCompletion tokensTotal }
        amount { amount currency }
        model { slug name }
        provider { slug name }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""
SQL = """
    select u.id, u.created_at, u.exact, u.tokens_prompt, u.tokens_completion, u.customer_nano_usd,
           m.slug, m.name, p.slug, p.name
      from usage_record u
      join model_revision r on r.id = u.revision_id
      join model m on m.id = r.model_id
      join provider p on p.id = u.provider_id
     where u.organization_id = %s
     order by u.id desc
     limit 51
"""
Asker = Callable[[], Awaitable[bytes]]


def measure() -> Sequence[Figure]:
    """Measure on servers of their own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-bench-page-")))
        folder.chmod(0o755)
        say("starting PostgreSQL and Redis")
        server = EmbeddedPostgres(folder / "postgres")
        server.start()
        stack.callback(server.destroy)
        upgrade(server.owner_url)
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        stack.enter_context(rare_collections())
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        return runner.run(_measure(server, redis))


async def _measure(server: EmbeddedPostgres, redis: EmbeddedRedis) -> Sequence[Figure]:
    async with askers(server.runtime_url, redis.url) as (graphql, sql):
        assert msgspec.json.decode(await graphql()) == msgspec.json.decode(await sql()), "not the same page"
        for _ in range(WARM):
            await graphql()
            await sql()
        say("measuring")
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(await cost(graphql, server))
            theirs.append(await cost(sql, server))
    ratios = [our.whole / their.whole for our, their in zip(ours, theirs, strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    whole = [statistics.median(each.whole for each in spent) for spent in (ours, theirs)]
    client = [statistics.median(each.client for each in spent) for spent in (ours, theirs)]
    return [
        Figure(
            name=f"page of {ROWS} usage rows with provider and model, CPU against the equal SQL",
            measured=(
                f"{ratio:.1f}x ({low:.1f} to {high:.1f}); {whole[0]:.2f} against {whole[1]:.2f} ms,"
                f" without PostgreSQL {client[0]:.2f} against {client[1]:.2f} ms"
            ),
            target=f"must <= {MUST:g}x, aim {AIM:g}x",
            holds=ratio <= MUST,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU of one answer, the mean of a round, in milliseconds."""

    client: float
    """Of this process."""
    whole: float
    """With PostgreSQL's."""


async def cost(ask: Asker, server: EmbeddedPostgres) -> Cost:
    """Ask a round's number of times."""
    begun, database = time.process_time(), database_cpu_s(server)
    for _ in range(PER_ROUND):
        await ask()
    client = time.process_time() - begun
    whole = client + database_cpu_s(server) - database
    return Cost(client=client * 1_000 / PER_ROUND, whole=whole * 1_000 / PER_ROUND)


def database_cpu_s(server: EmbeddedPostgres) -> float:
    """CPU of PostgreSQL's processes so far. One that ended meanwhile takes its own with it."""
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return sum(cpu_ns(pid) for pid in [server.pid, *map(int, children)]) / 1e9


@contextlib.asynccontextmanager
async def askers(url: str, redis_url: str) -> AsyncIterator[tuple[Asker, Asker]]:
    """The page through GraphQL and through SQL, over one customer's rows."""
    app = create_app(
        control_settings(
            url, redis_url=redis_url, graphql_points_per_hour=10**9, graphql_points_per_hour_address=10**9
        )
    )
    services = app.state.services
    async with running(services), contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bench")
        )
        api = Api(app, client, 0)
        customer = await api.tenant()
        sellers = [await api.seller() for _ in range(SELLERS)]
        for number in range(ROWS + 30):
            await api.use(customer, sellers[number % SELLERS], 1, tokens=number + 1)
        connection = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(url, autocommit=True)
        )
        yield (
            through_graphql(app, customer.id, customer.owner.token),
            through_sql(connection, customer.organization_id),
        )


def through_graphql(app: Any, organization_id: str, token: str) -> Asker:
    """POST the document to the ASGI app, without a socket or a client's own work."""
    body = msgspec.json.encode({"query": DOCUMENT, "variables": {"id": organization_id}})
    headers = [
        (b"host", b"bench"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"accept", b"application/graphql-response+json"),
        (b"authorization", f"Bearer {token}".encode()),
    ]

    async def ask() -> bytes:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/graphql", "raw_path": b"/graphql", "query_string": b"", "root_path": "", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        sent: list[bytes] = []
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return unread.pop() if unread else await asyncio.get_running_loop().create_future()

        async def send(message: dict[str, Any]) -> None:
            assert message.get("status", 200) == 200, message
            sent.append(message.get("body", b""))

        await app(scope, receive, send)
        return b"".join(sent)

    return ask


def through_sql(connection: psycopg.AsyncConnection, organization_id: UUID) -> Asker:
    """One statement, and the same JSON made of its rows."""

    async def ask() -> bytes:
        cursor = await connection.execute(SQL, (organization_id,), prepare=True)
        rows = await cursor.fetchall()
        return msgspec.json.encode({"data": {"organization": {"usageRecords": page_of(rows)}}})

    return ask


def page_of(rows: Sequence[tuple[Any, ...]]) -> dict[str, object]:
    """The connection as the API shows it."""
    shown = rows[:ROWS]
    return {
        "nodes": [
            {
                "id": show(Prefix.USAGE_RECORD, id_),
                "createdAt": time_shown(created_at),
                "exact": exact,
                "usage": {
                    "tokensPrompt": prompt,
                    "tokensCompletion": completion,
                    "tokensTotal": prompt + completion,
                },
                "amount": {"amount": f"{Decimal(nano_usd).scaleb(-9):f}", "currency": "USD"},
                "model": {"slug": model_slug, "name": model_name},
                "provider": {"slug": provider_slug, "name": provider_name},
            }
            for (
                id_, created_at, exact, prompt, completion, nano_usd,
                model_slug, model_name, provider_slug, provider_name,
            ) in shown
        ],
        "pageInfo": {
            "hasNextPage": len(rows) > ROWS,
            "endCursor": make_cursor("usage", str(shown[-1][0])),
        },
    }  # fmt: skip


def time_shown(value: datetime) -> str:
    """As `DateTime` is written."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
