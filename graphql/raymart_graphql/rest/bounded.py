"""Routes whose bodies are bounded in size and time before anything parses them."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message

from raymart_graphql.body import decode_json, read_body

BODY_BYTES_MAX = 64_000
"""The largest description of a machine has a few kilobytes."""


class BoundedRoute(APIRoute):
    """A FastAPI route that reads its body through the same guard as GraphQL does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the guard."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            try:
                body = await read_body(request.receive, bytes_max=BODY_BYTES_MAX)
            except ClientDisconnect:
                return Response(status_code=400)
            if body:
                decode_json(body)  # Strict where the standard library is not: NaN, lone surrogates, depth.
            return await handle(Request(request.scope, _replayed(body)))

        return bounded


def _replayed(body: bytes) -> Callable[[], Coroutine[Any, Any, Message]]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
