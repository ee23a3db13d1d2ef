"""The chain on a port of 127.0.0.1: JSON-RPC by HTTP and WebSocket, as a node's two ports in one.

`/` is the first node; `/nodes/<name>` are others, made when first asked, each with faults of its own, so that
`SOLANA_RPC_URL` can name two that may disagree. `GET /health` is 200 while it runs.

Anybody on this machine may use it, and pages in somebody's browser may not: a request must name a loopback host and, when
it has a body, be JSON, which no page can send across origins without being allowed to.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from raymart_billing.solana.devchain.dev_chain import DevChain
from raymart_billing.solana.devchain.errors import INVALID_REQUEST, PARSE_ERROR, NodeUnavailable, RpcError
from raymart_billing.solana.devchain.node import Node, respond
from raymart_billing.solana.devchain.subscriptions import Subscriptions

BODY_BYTES_MAX: Final = 1_000_000
BATCH_MAX: Final = 100
NODES_MAX: Final = 16
NEWS_EVERY_S: Final = 0.05
_LOOPBACK_HOST: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_LOOPBACK_ORIGIN: Final = re.compile(r"https?://" + _LOOPBACK_HOST.pattern)
_NODE_PATH: Final = re.compile(r"/nodes/([a-z0-9-]{1,32})")

# The types of ASGI, whose messages are open dictionaries.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _HttpRefusal(Exception):
    """An answer that is no JSON-RPC response."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class DevChainApp:
    """The ASGI application of one chain. `on_failure` is called when the chain cannot keep what happens."""

    def __init__(self, chain: DevChain, *, on_failure: Callable[[OSError], None]) -> None:
        self._chain = chain
        self._nodes: dict[str, Node] = {"/": chain.first_node}
        self._on_failure = on_failure

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            try:
                status, body = 200, await self._http(scope, receive)
            except _HttpRefusal as refusal:
                status, body = refusal.status, msgspec.json.encode(str(refusal))
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _http(self, scope: Message, receive: Receive) -> bytes:
        """The body of the response. Raises: _HttpRefusal."""
        headers = dict(scope["headers"])
        if not _LOOPBACK_HOST.fullmatch(headers.get(b"host", b"").decode("latin-1")):
            raise _HttpRefusal(403, "ask by a loopback name, such as 127.0.0.1")
        if scope["method"] == "GET" and scope["path"] == "/health":
            return b'"ok"'
        node = self._node(scope["path"])
        if node is None:
            raise _HttpRefusal(404, "no node is here; the first is at /, others at /nodes/<name>")
        if scope["method"] != "POST":
            raise _HttpRefusal(405, "POST a JSON-RPC request")
        if not headers.get(b"content-type", b"").startswith(b"application/json"):
            raise _HttpRefusal(415, "the content-type must be application/json")
        body = await _body(receive)
        try:
            return msgspec.json.encode(self._answer(node, body))
        except NodeUnavailable as error:
            raise _HttpRefusal(503, str(error)) from error

    def _answer(self, node: Node, body: bytes) -> object:
        try:
            asked = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return _refused(RpcError(PARSE_ERROR, "Parse error"))
        try:
            if isinstance(asked, dict):
                return node.respond(asked)
            if (
                isinstance(asked, list)
                and 0 < len(asked) <= BATCH_MAX
                and all(isinstance(one, dict) for one in asked)
            ):
                return [node.respond(one) for one in asked]
        except OSError as error:
            if not isinstance(error, NodeUnavailable):
                self._on_failure(error)
            raise
        return _refused(RpcError(INVALID_REQUEST, "Invalid request"))

    def _node(self, path: str) -> Node | None:
        """The node at `path`. A name is a node as soon as it is asked for, up to a number."""
        node = self._nodes.get(path)
        if node is None and _NODE_PATH.fullmatch(path) and len(self._nodes) < NODES_MAX:
            node = self._nodes[path] = self._chain.node()
        return node

    async def _websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        node = self._node(scope["path"])
        await receive()
        if (
            node is None
            or not _LOOPBACK_HOST.fullmatch(host)
            or (origin and not _LOOPBACK_ORIGIN.fullmatch(origin))
        ):
            await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "websocket.accept"})
        subscriptions = Subscriptions(node.view)
        teller = asyncio.create_task(_tell(subscriptions, node, send))
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await send(_frame(_subscribed(subscriptions, message)))
        finally:
            teller.cancel()


async def _tell(subscriptions: Subscriptions, node: Node, send: Send) -> None:
    """Send what has happened, until cancelled."""
    while True:
        await asyncio.sleep(NEWS_EVERY_S)
        node.view.chain.catch_up()
        for notification in subscriptions.news():
            await send(_frame(notification))


def _subscribed(subscriptions: Subscriptions, message: Message) -> object:
    try:
        asked = msgspec.json.decode(message.get("text") or message.get("bytes") or b"")
    except msgspec.DecodeError:
        return _refused(RpcError(PARSE_ERROR, "Parse error"))
    if not isinstance(asked, dict):
        return _refused(RpcError(INVALID_REQUEST, "Invalid request"))
    return respond(asked, subscriptions.respond)


async def _body(receive: Receive) -> bytes:
    """The whole body. Raises: _HttpRefusal, when it is too large or the caller has left."""
    body = bytearray()
    is_more = True
    while is_more:
        message = await receive()
        if message["type"] != "http.request":
            raise _HttpRefusal(400, "the request broke off")
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
        if len(body) > BODY_BYTES_MAX:
            raise _HttpRefusal(413, f"a request has at most {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _frame(content: object) -> Message:
    return {"type": "websocket.send", "text": msgspec.json.encode(content).decode()}


def _refused(error: RpcError) -> object:
    return {"jsonrpc": "2.0", "id": None, "error": error.as_json()}
