"""`/graphql`: GET and POST by the GraphQL-over-HTTP draft, event streams, and graphql-transport-ws.

A raw ASGI app rather than FastAPI's router: that one keeps a request's response on the shared router object, and adds
dependency injection that we do not need. Strawberry's view serves the WebSockets; HTTP is ours from the first byte to
the last. The private hooks of Strawberry used here are why its version is pinned.
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from contextlib import aclosing
from datetime import timedelta
from json import JSONDecodeError
from typing import Any

import msgspec
import structlog
from graphql.execution import InitialIncrementalExecutionResult
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLRequestData, process_result
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UnsetType

from raymart_core.errors import DomainError, InvalidRequest
from raymart_core.ids import Prefix, new_id, show
from raymart_graphql.body import decode_json, posted, query_parameters, read_body
from raymart_graphql.client_address import client_address
from raymart_graphql.context import Client
from raymart_graphql.errors import ErrorCode, code_of
from raymart_graphql.ide import page, wants_page
from raymart_graphql.negotiation import Media, negotiated
from raymart_graphql.origins import check_origin
from raymart_graphql.persisted import PersistedQueryNotFound
from raymart_graphql.principal import identify
from raymart_graphql.reading import Reading
from raymart_graphql.schema.guarded import GuardedSchema
from raymart_graphql.services import Services
from raymart_graphql.streaming import EventStream, Frame, Frames, Multipart, Streamed, left, stopped
from raymart_graphql.transport_ws import PatientSocket, TransportWs

log = structlog.get_logger()

INIT_TIMEOUT = timedelta(seconds=10)
"""A WebSocket that has not said `connection_init` by then is closed."""
OPERATIONS_PER_SOCKET_MAX = 100
OPERATIONS = {
    "GET": frozenset({OperationType.QUERY}),
    "POST": frozenset({OperationType.QUERY, OperationType.MUTATION}),
}
"""What a method may run. Subscriptions by either, where the answer can be a stream."""


class GraphQLEndpoint(GraphQL[Client, None]):
    """The GraphQL API as an ASGI app."""

    graphql_transport_ws_handler_class = TransportWs
    websocket_adapter_class = PatientSocket

    def __init__(self, schema: GuardedSchema, services: Services) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=INIT_TIMEOUT,
            max_subscriptions_per_connection=OPERATIONS_PER_SOCKET_MAX,
            allowed_origins=services.settings.allowed_origins,
        )
        self._services = services
        self._has_ide = services.settings.development or services.settings.graphiql

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request or one WebSocket."""
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope)
        client = self._client(request)
        try:
            response = await self._answer(request, receive, client)
        except ClientDisconnect:
            return
        except PersistedQueryNotFound as error:
            # Apollo's server answers 200: the client is to go on, and nothing may be cached for it.
            response = _refusal(error.message, 200, ErrorCode.PERSISTED_QUERY_NOT_FOUND, client.request_id)
        except DomainError as error:
            code = ErrorCode.BAD_REQUEST if isinstance(error, InvalidRequest) else code_of(error)
            response = _refusal(error.message, error.status, code, client.request_id)
        except Exception:
            log.exception("request.failed", request_id=client.request_id)
            message = f"an internal error; quote {client.request_id} to support"
            response = _refusal(message, 500, ErrorCode.INTERNAL_SERVER_ERROR, client.request_id)
        response.headers["x-request-id"] = client.request_id
        response.headers.add_vary_header("Accept")
        if not isinstance(response, Streamed):
            response.headers.update(await client.points_headers())
        await response(scope, receive, send)

    async def _answer(self, request: Request, receive: Receive, client: Client) -> Response | Streamed:
        """Raises: DomainError for a request that carries no operation, ClientDisconnect."""
        check_origin(request.headers, self.allowed_origins)
        if request.method not in OPERATIONS:
            return _not_allowed(client.request_id)
        if self._has_ide and wants_page(request):
            return page()
        body = await read_body(receive, bytes_max=self._services.settings.body_bytes_max)
        asked = query_parameters(request.query_params) if request.method == "GET" else posted(request, body)
        persisted = self._services.persisted_queries
        asked = await persisted.complete(asked)
        accepted = negotiated(request.headers.get("accept", ""))
        client.incremental = accepted.incremental
        if accepted.media is Media.EVENT_STREAM:
            allowed = {*OPERATIONS[request.method], OperationType.SUBSCRIPTION}
            frames = await self._frames(asked, client, allowed)
            return EventStream(frames, begun=client.charged, late_headers=client.points_headers)
        frames = await self._frames(asked, client, OPERATIONS[request.method])
        first = await _unless_gone(anext(frames), receive)
        if not isinstance(first, PreExecutionError):
            await persisted.remember(asked)
        if isinstance(first, InitialIncrementalExecutionResult):
            return Multipart(
                _put_back(first, frames), begun=client.charged, late_headers=client.points_headers
            )
        await frames.aclose()
        assert isinstance(first, ExecutionResult)
        return _json(first, accepted.media)

    async def _frames(
        self, asked: GraphQLRequestData, client: Client, allowed: Collection[OperationType]
    ) -> Frames:
        """The operation's results. Nothing runs before the first one is asked for."""
        return await self.schema.stream(
            asked.query,
            variable_values=asked.variables,
            context_value=client,
            operation_name=asked.operation_name,
            operation_extensions=asked.extensions,
            allowed_operation_types=allowed,
        )

    def _client(self, request: Request | WebSocket) -> Client:
        """Who is at the other end."""
        authorization = request.headers.get("authorization")
        return Client(
            services=self._services,
            authorization=authorization.encode("latin-1") if authorization is not None else None,
            request_id=show(Prefix.REQUEST, new_id()),
            address=client_address(
                request.client.host if request.client is not None else None,
                request.headers.getlist("x-forwarded-for"),
                self._services.settings.trusted_proxies,
            ),
            user_agent=request.headers.get("user-agent", ""),
        )

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Client:
        """Strawberry hands it to every operation of a WebSocket."""
        return self._client(request)

    def decode_json(self, data: str | bytes) -> object:
        """Strict JSON for WebSocket messages; what is none closes the socket."""
        try:
            return decode_json(data)
        except DomainError as error:
            raise JSONDecodeError(error.message, "", 0) from None

    def encode_json(self, data: object) -> str:
        """JSON text."""
        return msgspec.json.encode(data).decode()

    async def on_ws_connect(self, context: Client) -> UnsetType | dict[str, object] | None:
        """Let in who sends credentials that are right, in the handshake's header or in `connection_init`'s payload."""
        for name, value in (context.connection_params or {}).items():
            if name.lower() == "authorization" and isinstance(value, str):
                context.authorization = value.encode("utf-8", "replace")
        reading = Reading(self._services.sessions)
        try:
            if context.authorization is None:
                raise ConnectionRejectionError
            await identify(context.authorization, self._services.authenticator, reading)
        except DomainError:
            raise ConnectionRejectionError from None
        finally:
            await reading.aclose()
        return UnsetType()


def _json(result: ExecutionResult, media: Media) -> Response:
    """One JSON document: only the new media type lets status codes speak of GraphQL errors."""
    document: dict[str, Any] = dict(process_result(result))
    status = _status(document, media)
    if status in {400, 429}:
        document.pop("data", None)
    response = Response(msgspec.json.encode(document), status_code=status)
    response.headers["content-type"] = f"{media.value}; charset=utf-8"
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


def _status(document: Mapping[str, Any], media: Media) -> int:
    """The HTTP status that says what `document` does."""
    errors = document.get("errors") or []
    codes = {error["extensions"]["code"] for error in errors}
    if codes == {ErrorCode.RATE_LIMITED.value} and document.get("data") is None:
        return 429
    if codes == {ErrorCode.BAD_REQUEST.value}:
        return 400
    if media is Media.JSON or not errors or document.get("data") is not None:
        return 200
    if codes == {ErrorCode.UNAUTHENTICATED.value}:
        return 401
    # A path means that the operation ran and a field failed; without one it was refused as a whole.
    return 200 if any(error.get("path") for error in errors) else 400


def _refusal(message: str, status: int, code: ErrorCode, request_id: str) -> Response:
    error = {"message": message, "extensions": {"code": code.value, "requestId": request_id}}
    return Response(
        msgspec.json.encode({"errors": [error]}),
        status_code=status,
        headers={"content-type": f"{Media.JSON.value}; charset=utf-8"},
    )


def _not_allowed(request_id: str) -> Response:
    response = _refusal("send GraphQL by GET or POST", 405, ErrorCode.BAD_REQUEST, request_id)
    response.headers["allow"] = "GET, POST"
    return response


async def _put_back(first: Frame, rest: Frames) -> Frames:
    async with aclosing(rest):
        yield first
        async for frame in rest:
            yield frame


async def _unless_gone(first: Awaitable[Frame], receive: Receive) -> Frame:
    """The result, unless the client leaves first: then its work is cancelled.

    Raises: ClientDisconnect.
    """
    work = asyncio.ensure_future(first)
    leaving = asyncio.ensure_future(left(receive))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        await stopped(work, leaving)
