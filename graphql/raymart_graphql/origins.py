"""Which web pages may use the API from a visitor's browser.

Credentials travel in the `Authorization` header or in `connection_init`, never in a cookie, so a foreign page has
nothing to ride on (no CSRF). Foreign origins are refused all the same: what a browser sends on behalf of a page that we
do not know, a WebSocket and an event stream above all, is no client of ours.
"""

from collections.abc import Collection, Mapping, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route
from strawberry.http.websocket_origin import is_same_origin, normalize_origin

from raymart_core.errors import Forbidden

EXPOSED_HEADERS = (
    "retry-after",
    "x-ratelimit-cost",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-used",
    "x-request-id",
)
"""What a page of an allowed origin may read of GraphQL's headers."""
_LIMITS = tuple(
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
)
INFERENCE_HEADERS = (
    "retry-after",
    "x-generation-id",
    "x-raymart-attempts",
    "x-raymart-cache",
    "x-raymart-cost",
    "x-raymart-model",
    "x-raymart-provider",
    "x-request-id",
    *_LIMITS,
)
"""The same of inference."""


def open_to_pages(routes: Sequence[BaseRoute], *, origins: Sequence[str]) -> Sequence[BaseRoute]:
    """Let pages of `origins` call `routes`, which are raw ASGI applications; without any, nothing stands before them.

    Whatever header a page wants to send, it may: clients for browsers send many of their own.
    """
    if origins:
        for route in routes:
            assert isinstance(route, Route)
            route.app = CORSMiddleware(
                route.app,
                allow_origins=origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=INFERENCE_HEADERS,
            )
    return routes


def check_origin(headers: Mapping[str, str], allowed: Collection[str]) -> None:
    """Let in what no browser sent, what a page of this host sent, and the `allowed` origins. Raises: Forbidden."""
    origin = headers.get("origin")
    if origin is None or "*" in allowed or is_same_origin(origin, headers.get("host")):
        return
    if normalize_origin(origin) not in allowed:
        raise Forbidden(
            f"pages of {origin[:200]!r} may not use this API; the operator allows them with RAYMART_ALLOWED_ORIGINS"
        )
