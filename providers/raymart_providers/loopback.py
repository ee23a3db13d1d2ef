"""The agent's own HTTP server on 127.0.0.1: replicas register here, `raymart-provider status` asks here.

Small on purpose: HTTP/1.1 with Content-Length bodies, a bearer token, a limit on everything.
"""

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import msgspec
import structlog

from raymart_providers.errors import ProviderError
from raymart_providers.private_file import read_private, write_private

log = structlog.get_logger()

_HEAD_BYTES_MAX = 16 * 1024
_BODY_BYTES_MAX = 64 * 1024
_IDLE_TIMEOUT_S = 60.0
_CONNECTIONS_MAX = 256


class AgentFile(msgspec.Struct, frozen=True):
    """Content of the agent file: where the running agent listens and the token it wants."""

    url: str
    token: str


def read_agent_file(path: Path) -> AgentFile:
    """Where the agent of a state directory listens. Raises: FileNotFoundError, UnsafeFile, ValueError."""
    return msgspec.json.decode(read_private(path), type=AgentFile)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its body read."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """One response; `body` is JSON."""

    status: HTTPStatus
    body: bytes = b"{}"


Handler = Callable[[Request], Answer]
"""Answers at once; the loop never waits for it."""


class BadHttp(ProviderError):
    """A request that is no acceptable HTTP/1.1; the connection is closed."""


class LoopbackServer:
    """Serve `handler` to whoever holds the token, which is fresh at each start."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._token = secrets.token_urlsafe(32)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, agent_file: Path) -> None:
        """Listen on a free port and write `agent_file` (mode 0600), replacing that of an earlier agent."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_BYTES_MAX)
        port = self._server.sockets[0].getsockname()[1]
        content = AgentFile(url=f"http://127.0.0.1:{port}", token=self._token)
        write_private(agent_file, msgspec.json.encode(content))

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._connections):
            writer.close()
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(writer)
        try:
            while True:
                async with asyncio.timeout(_IDLE_TIMEOUT_S):
                    head, body = await _read_request(reader)
                    writer.write(self._answer(head, body))
                    await writer.drain()
        except BadHttp as error:
            log.warning("loopback.bad_request", reason=str(error))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # The peer closed, idled too long or sent an endless head: nothing is owed to it.
        finally:
            self._connections.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: "_Head", body: bytes) -> bytes:
        # Compared as bytes: a header may hold any octet, and text comparison refuses those.
        if not hmac.compare_digest(head.authorization, f"Bearer {self._token}".encode()):
            answer = Answer(HTTPStatus.UNAUTHORIZED, b'{"message":"wrong token; read the agent file again"}')
        else:
            answer = self._handler(Request(head.method, head.path, body))
        return (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(answer.body)}\r\n\r\n"
        ).encode() + answer.body


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    path: str
    content_length: int
    authorization: bytes


async def _read_request(reader: asyncio.StreamReader) -> tuple[_Head, bytes]:
    head = _parse_head(await reader.readuntil(b"\r\n\r\n"))
    return head, await reader.readexactly(head.content_length)


def _parse_head(raw: bytes) -> _Head:
    request_line, *lines = raw[:-4].split(b"\r\n")
    try:
        method, path, _ = request_line.decode("ascii").split(" ")
    except ValueError:
        raise BadHttp(f"a request line that cannot be read: {request_line[:80]!r}") from None
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)
    }
    length = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or not length.isdigit() or int(length) > _BODY_BYTES_MAX:
        raise BadHttp(f"a body must have a Content-Length of at most {_BODY_BYTES_MAX}, not {length[:20]!r}")
    return _Head(
        method=method,
        path=path,
        content_length=int(length),
        authorization=headers.get(b"authorization", b""),
    )
