"""`/graphql`: GET and POST by the GraphQL-over-HTTP draft, and WebSockets that speak graphql-transport-ws.

A raw ASGI app rather than FastAPI's router: that one keeps a request's response on the shared router object, and adds
dependency injection that we do not need. The private hooks of Strawberry used here are why its version is pinned.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from json import JSONDecodeError
from typing import Any

import msgspec
import structlog
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.unset import UnsetType

from raymart_core.errors import DomainError
from raymart_core.ids import Prefix, new_id, show
from raymart_graphql.body import decode_json, read_body, request_data
from raymart_graphql.context import Client
from raymart_graphql.errors import ErrorCode, code_of
from raymart_graphql.negotiation import Media, negotiated
from raymart_graphql.principal import identify
from raymart_graphql.reading import Reading
from raymart_graphql.schema.guarded import GuardedSchema
from raymart_graphql.services import Services
from raymart_graphql.transport_ws import PatientSocket, TransportWs

log = structlog.get_logger()

INIT_TIMEOUT = timedelta(seconds=10)
"""A WebSocket that has not said `connection_init` by then is closed."""
OPERATIONS_PER_SOCKET_MAX = 100


class GraphQLEndpoint(GraphQL[Client, None]):
    """The GraphQL API as an ASGI app."""

    graphql_transport_ws_handler_class = TransportWs
    websocket_adapter_class = PatientSocket

    def __init__(self, schema: GuardedSchema, services: Services) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            allow_queries_via_get=True,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=INIT_TIMEOUT,
            max_subscriptions_per_connection=OPERATIONS_PER_SOCKET_MAX,
        )
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request or one WebSocket."""
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        request_id = show(Prefix.REQUEST, new_id())
        scope.setdefault("state", {})["request_id"] = request_id
        try:
            body = await read_body(receive, bytes_max=self._services.settings.body_bytes_max)
            response = await _unless_gone(self._answer(Request(scope, _replay(body)), request_id), receive)
        except ClientDisconnect:
            return
        except DomainError as error:
            response = _refusal(error.message, error.status, code_of(error), request_id)
        response.headers["x-request-id"] = request_id
        await response(scope, receive, send)

    async def _answer(self, request: Request, request_id: str) -> Response:
        try:
            return await self.run(request)
        except HTTPException as error:
            response = _refusal(error.reason, error.status_code, ErrorCode.BAD_REQUEST, request_id)
            if error.status_code == 405:
                response.headers["allow"] = "GET, POST"
            return response
        except DomainError as error:
            code = ErrorCode.BAD_REQUEST if error.status == 400 else code_of(error)
            return _refusal(error.message, error.status, code, request_id)
        except Exception:
            log.exception("request.failed", request_id=request_id)
            return _refusal(
                f"an internal error; quote {request_id} to support",
                500,
                ErrorCode.INTERNAL_SERVER_ERROR,
                request_id,
            )

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Client:
        """Who is at the other end; Strawberry hands it to every operation."""
        authorization = request.headers.get("authorization")
        known = request.scope.get("state", {}).get("request_id")
        return Client(
            services=self._services,
            authorization=authorization.encode("latin-1") if authorization is not None else None,
            request_id=known or show(Prefix.REQUEST, new_id()),
        )

    def should_render_graphql_ide(self, request: object) -> bool:
        """Never: the one that Strawberry brings loads its scripts from elsewhere."""
        return False

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData:
        """The request's parameters. Raises: InvalidRequest, HTTPException for another content type."""
        if request.method == "GET":
            parameters: dict[str, Any] = dict(request.query_params)
            for name in ("variables", "extensions"):
                if parameters.get(name):
                    parameters[name] = decode_json(parameters[name])
            return request_data(parameters)
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            # Forms and plain text are what a foreign page may send without asking.
            raise HTTPException(415, "send the request as `content-type: application/json`")
        return request_data(decode_json(await request.get_body()))

    def decode_json(self, data: str | bytes) -> object:
        """Strict JSON for WebSocket messages; what is none closes the socket."""
        try:
            return decode_json(data)
        except DomainError as error:
            raise JSONDecodeError(error.message, "", 0) from None

    def encode_json(self, data: object) -> str:
        """JSON text."""
        return msgspec.json.encode(data).decode()

    async def get_sub_response(self, request: Request | WebSocket) -> "_Negotiated":
        """Carries the request's media type to `create_response`."""
        return _Negotiated(negotiated(request.headers.get("accept", "")))

    def create_response(
        self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response
    ) -> Response:
        """By the negotiated media type: only the new one lets status codes speak of GraphQL errors."""
        assert isinstance(sub_response, _Negotiated)
        assert isinstance(response_data, dict), "batches are off"
        status = _status(response_data) if sub_response.media is Media.GRAPHQL else 200
        if status == 400:
            response_data.pop("data", None)
        response = Response(self.encode_json(response_data), status_code=status)
        response.headers["content-type"] = f"{sub_response.media.value}; charset=utf-8"
        response.headers["vary"] = "Accept"
        if status == 401:
            response.headers["www-authenticate"] = "Bearer"
        return response

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


class _Negotiated(Response):
    """Strawberry's place for headers of the response to come; here it carries the media type."""

    def __init__(self, media: Media) -> None:
        super().__init__()
        self.media = media


def _status(response: Mapping[str, Any]) -> int:
    """Status of a response as application/graphql-response+json."""
    errors = response.get("errors") or []
    if not errors or response.get("data") is not None:
        return 200
    codes = {error["extensions"]["code"] for error in errors}
    if codes == {ErrorCode.UNAUTHENTICATED.value}:
        return 401
    # A path means that the operation ran and a field failed; without one it was refused as a whole.
    return 200 if any(error.get("path") for error in errors) else 400


def _refusal(message: str, status: int, code: ErrorCode, request_id: str) -> Response:
    error = {"message": message, "extensions": {"code": code.value, "requestId": request_id}}
    return Response(
        msgspec.json.encode({"errors": [error]}),
        status_code=status,
        headers={"content-type": f"{Media.JSON.value}; charset=utf-8", "vary": "Accept"},
    )


def _replay(body: bytes) -> Receive:
    """A `receive` that gives a body that was read already."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _unless_gone(answer: Coroutine[Any, Any, Response], receive: Receive) -> Response:
    """The answer, unless the client leaves first: then its work is cancelled.

    Raises: ClientDisconnect.
    """
    work = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        for task in (work, leaving):
            task.cancel()
        # What is cancelled may still have to settle its bill.
        for task in (work, leaving):
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
