"""Hostile HTTP: clients that are slow, huge, broken or ambiguous get no 5xx, no memory and nobody else's time.

The real API process, on sockets written by hand. 400 connections that never finish a head, and 400 that never finish a
body, are closed while an honest client is served beside them; a body of 200 MB is refused before it is read; what two
parsers could read differently, and JSON that breaks parsers, is a 4xx. The cases that schemathesis makes are `make fuzz`.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx

from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from support import slow_clients
from support.figures import Figure

SLOW = 400
CLOSED_WITHIN_S = HttpServerProtocol.receipt_timeout_s + 5
"""What a request has to arrive, and what a busy machine is late."""
HONEST_S_MAX = 0.5
HUGE_BYTES = 200 * 2**20
GROWTH_BYTES_MAX = 50 * 2**20
START_TIMEOUT_S = 60
POST = b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"

AMBIGUOUS: dict[str, bytes] = {
    "content-length and transfer-encoding": POST
    + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two content-lengths": POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "folded header": b"GET /health HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
    "a space before the colon": b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length : 5\r\n\r\nhello",
    "a head of 70 KB": b"GET /health HTTP/1.1\r\nhost: x\r\na: " + b"x" * 70_000 + b"\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
}
BROKEN_BODIES: dict[str, bytes] = {
    "bad UTF-8": b'{"query": "\xff\xfe"}',
    "a number": b"5",
    "a lone surrogate": b'{"query": "{ __typename }", "operationName": "\\ud800"}',
    "JSON 100,000 deep": b"[" * 100_000,
    "variables 10,000 deep": b'{"query": "{ __typename }", "variables": {"a": '
    + b"[" * 10_000
    + b"]" * 10_000
    + b"}}",
    "a number of 5,000 digits": b'{"query": "{ __typename }", "variables": {"a": ' + b"9" * 5_000 + b"}}",
    "NaN": b'{"query": "{ __typename }", "variables": {"a": NaN}}',
    "nothing": b"",
    "cut off": b'{"query": "{ __type',
}
PATHS = ("/graphql", "/v1/chat/completions", "/worker/v1/challenges", "/webhooks/stripe")


def measure() -> Sequence[Figure]:
    """Start the API on a server of its own and attack it."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-12-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            upgrade(server.owner_url)
            return asyncio.run(_attacks(server.runtime_url))
        finally:
            server.destroy()


async def _attacks(url: str) -> Sequence[Figure]:
    async with _api(url) as (port, pid), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        return [
            *await _slow(port, client, "heads", b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: "),
            *await _slow(port, client, "bodies", POST + b"content-length: 1000\r\n\r\n{"),
            await _huge(port, pid),
            await _refused(
                "ambiguous or broken requests", [await _raw(port, raw) for raw in AMBIGUOUS.values()]
            ),
            await _refused(
                "bodies that break parsers, on each surface",
                [
                    (
                        await client.post(path, content=body, headers={"content-type": "application/json"})
                    ).status_code
                    for path in PATHS
                    for body in BROKEN_BODIES.values()
                ],
            ),
            await _still_well(client),
        ]


async def _slow(port: int, client: httpx.AsyncClient, what: str, beginning: bytes) -> Sequence[Figure]:
    """Connections that begin a request and send one byte a second."""
    slow = asyncio.create_task(_slow_clients(port, beginning))
    waits = []
    first = time.monotonic()
    while not slow.done():
        begun = time.monotonic()
        (await client.get("/health")).raise_for_status()
        waits.append((time.monotonic() - begun, begun - first))
        await asyncio.sleep(0.05)
    lives = await slow
    longest_s, after_s = max(waits)
    closed = sum(life_s <= CLOSED_WITHIN_S for life_s in lives)
    return [
        Figure(
            name=f"{SLOW} slow {what}: closed",
            measured=f"{closed}, the last after {max(lives):.1f} s",
            target=f"all within {CLOSED_WITHIN_S:g} s",
            holds=closed == SLOW,
        ),
        Figure(
            name=f"{SLOW} slow {what}: an honest client waits at most",
            measured=f"{longest_s * 1000:.0f} ms, {after_s:.1f} s after the first",
            target=f"<= {HONEST_S_MAX * 1000:.0f} ms",
            holds=longest_s <= HONEST_S_MAX,
        ),
    ]


async def _slow_clients(port: int, beginning: bytes) -> Sequence[float]:
    """How many seconds each of them lived."""
    # Not on this loop: 400 tasks of their own would be what the honest client waits for.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(slow_clients.__file__)),
        str(port),
        str(SLOW),
        str(2 * CLOSED_WITHIN_S),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate(beginning)
    lives: list[float] = json.loads(told)
    return lives


async def _huge(port: int, pid: int) -> Figure:
    before, status = _rss(pid), 0
    peak = before
    for head in (
        POST + b"content-length: %d\r\n\r\n" % HUGE_BYTES,
        POST + b"transfer-encoding: chunked\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        piece = b"x" * 65_536
        chunk = piece if b"content-length" in head else b"10000\r\n" + piece + b"\r\n"
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(head)
            for _ in range(HUGE_BYTES // len(piece)):
                writer.write(chunk)
                async with asyncio.timeout(1):
                    await writer.drain()
                peak = max(peak, _rss(pid))
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(5):
                line = await reader.readline()
                status = max(status, int(line.split()[1]) if line else 0)
        writer.close()
    grown = peak - before
    return Figure(
        name="two bodies of 200 MB: memory, and the answer",
        measured=f"{grown / 2**20:.1f} MB more at most, {status or 'connection closed'}",
        target=f"<= {GROWTH_BYTES_MAX // 2**20} MB, 413 or closed",
        holds=grown <= GROWTH_BYTES_MAX and status in {0, 413},
    )


async def _raw(port: int, request: bytes) -> int:
    """The status that a request written by hand gets; 400 for a connection that is closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(15):
            line = await reader.readline()
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    return int(line.split()[1]) if line else 400


async def _refused(name: str, statuses: Sequence[int]) -> Figure:
    refused = sum(400 <= status < 500 for status in statuses)
    return Figure(
        name=f"{name}: refused by a 4xx",
        measured=f"{refused} of {len(statuses)}",
        target="all",
        holds=refused == len(statuses),
    )


async def _still_well(client: httpx.AsyncClient) -> Figure:
    answer = await client.post("/graphql", json={"query": "{ __typename }"})
    return Figure(
        name="afterwards an honest query gets",
        measured=f"{answer.status_code} {json.dumps(answer.json())}",
        target="its answer",
        holds=answer.json() == {"data": {"__typename": "Query"}},
    )


@contextlib.asynccontextmanager
async def _api(url: str) -> AsyncIterator[tuple[int, int]]:
    """Port and pid of an API process, as `raymart` serves it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from raymart_graphql.operator.serving import serve_api\n"
        "from raymart_marketplace.settings import ControlSettings\n"
        "serve_api(ControlSettings())",
        env={
            **os.environ,
            "DATABASE_URL": url,
            "RAYMART_TOKEN_SECRET": "5e" * 32,
            "RAYMART_PORT": str(port),
            "RAYMART_LOG_LEVEL": "ERROR",
        },
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await _until_up(port)
        yield port, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _until_up(port: int) -> None:
    async with httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200:
                    return
            await asyncio.sleep(0.2)


def _rss(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
