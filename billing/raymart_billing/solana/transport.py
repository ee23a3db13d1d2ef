"""One endpoint of Solana's JSON-RPC: a request in, a result out, or one of two errors.

Answers are read as plain JSON. The typed responses of `solders` panic, past `except Exception`, where a node leaves out
the `data` of an error or names an error that the library does not know.
Source: JSON-RPC 2.0; Solana's RPC methods (solana.com/docs/rpc).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import msgspec

from raymart_billing.solana.errors import RpcRefused, RpcUnavailable

JsonObject = dict[str, object]
Answerer = Callable[[JsonObject], Awaitable[JsonObject]]
"""An endpoint within this process, for tests: a JSON-RPC request in, its response out."""
Endpoint = str | Answerer
"""The HTTP address of a node, or an `Answerer`."""

CONNECT_TIMEOUT_S = 3.0
ANSWER_BYTES_MAX = 16_000_000
"""A thousand signatures are 0.3 MB, a hundred accounts of 165 bytes 0.05 MB."""
CALLS_MAX = 32
"""At once per endpoint; further ones wait within their own timeout."""


class Transport(Protocol):
    """What carries requests to one endpoint."""

    name: str
    """Says which endpoint it is, without the key that its address may hold."""

    async def call(self, method: str, params: Sequence[object]) -> object:
        """The `result`. Raises: RpcRefused, RpcUnavailable."""

    async def aclose(self) -> None:
        """Close its connections."""


class InProcessTransport:
    """An endpoint that is a function."""

    def __init__(self, answerer: Answerer, *, name: str, timeout_s: float) -> None:
        self.name = name
        self._answerer = answerer
        self._timeout_s = timeout_s
        self._ids = count(1)

    async def call(self, method: str, params: Sequence[object]) -> object:
        """The `result`. Raises: RpcRefused, RpcUnavailable."""
        request = request_of(next(self._ids), method, params)
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._answerer(request)
        except (OSError, TimeoutError) as error:
            raise unreachable(self.name, method, error) from error
        return result_of(response, request=request, endpoint=self.name)

    async def aclose(self) -> None:
        """Nothing is open."""


class HttpTransport:
    """An endpoint at an HTTP address. Connects when it is first used; one event loop only."""

    def __init__(self, url: str, *, name: str, timeout_s: float) -> None:
        self.name = f"{name} ({urlsplit(url).hostname})"
        self._url = url
        self._timeout_s = timeout_s
        self._ids = count(1)
        self._places = asyncio.Semaphore(CALLS_MAX)
        self._client: httpx.AsyncClient | None = None

    async def call(self, method: str, params: Sequence[object]) -> object:
        """The `result`. One post, never repeated. Raises: RpcRefused, RpcUnavailable."""
        request = request_of(next(self._ids), method, params)
        try:
            # The whole call: a body that drips in byte by byte would outlive httpx's timeout for each read.
            async with asyncio.timeout(self._timeout_s), self._places:
                status, body = await self._post(msgspec.json.encode(request))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise unreachable(self.name, method, error) from error
        try:
            response = msgspec.json.decode(body)
        except (ValueError, RecursionError) as error:  # also a UnicodeDecodeError, which is no DecodeError
            raise RpcUnavailable(
                f"{self.name} answered {method} with status {status} and no JSON; ask again"
            ) from error
        return result_of(response, request=request, endpoint=self.name)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _post(self, content: bytes) -> tuple[int, bytes]:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=CALLS_MAX),
                headers={"Content-Type": "application/json"},
            )
        async with self._client.stream("POST", self._url, content=content) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise httpx.DecodingError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
            return response.status_code, bytes(body)


def open_transport(endpoint: Endpoint, *, number: int, timeout_s: float) -> Transport:
    """What carries requests to `endpoint`, the `number`th of this process."""
    name = f"endpoint {number}"
    if isinstance(endpoint, str):
        return HttpTransport(endpoint, name=name, timeout_s=timeout_s)
    return InProcessTransport(endpoint, name=name, timeout_s=timeout_s)


def request_of(request_id: int, method: str, params: Sequence[object]) -> JsonObject:
    """A JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}


def result_of(response: object, *, request: JsonObject, endpoint: str) -> object:
    """The result in `response`. Raises: RpcRefused with its error, RpcUnavailable when it is no answer to `request`."""
    method = str(request["method"])
    if not isinstance(response, dict):
        raise malformed(endpoint, method, f"a {type(response).__name__} instead of an object")
    error = response.get("error")
    if error is not None:
        raise _refusal(error, method=method, endpoint=endpoint)
    if "result" not in response:
        raise malformed(endpoint, method, "neither a result nor an error")
    if response.get("id") != request["id"]:
        raise malformed(endpoint, method, "the id of another request")
    return response["result"]


def malformed(endpoint: str, method: str, what: str) -> RpcUnavailable:
    """The error for an answer that is not what `method` returns."""
    return RpcUnavailable(f"{endpoint} answered {method} with {what}; it is not believed, ask again")


def unreachable(endpoint: str, method: str, error: BaseException) -> RpcUnavailable:
    """The error for no answer."""
    # The kind only: httpx's messages name the address, which may hold a key.
    return RpcUnavailable(f"{endpoint} did not answer {method} ({type(error).__name__}); ask again")


def _refusal(error: object, *, method: str, endpoint: str) -> RpcRefused | RpcUnavailable:
    if not isinstance(error, dict):
        return malformed(endpoint, method, "an error that is no object")
    code, message = error.get("code"), error.get("message")
    if not isinstance(code, int) or isinstance(code, bool) or not isinstance(message, str):
        return malformed(endpoint, method, "an error without a code and a message")
    return RpcRefused(
        method=method, endpoint=endpoint, rpc_code=code, message=message, data=error.get("data")
    )
