"""Which web pages may use the API from a visitor's browser.

Credentials travel in the `Authorization` header or in `connection_init`, never in a cookie, so a foreign page has
nothing to ride on (no CSRF). Foreign origins are refused all the same: what a browser sends on behalf of a page that we
do not know, a WebSocket and an event stream above all, is no client of ours.
"""

from collections.abc import Collection, Mapping

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
"""What a page of an allowed origin may read of an answer's headers."""


def check_origin(headers: Mapping[str, str], allowed: Collection[str]) -> None:
    """Let in what no browser sent, what a page of this host sent, and the `allowed` origins. Raises: Forbidden."""
    origin = headers.get("origin")
    if origin is None or "*" in allowed or is_same_origin(origin, headers.get("host")):
        return
    if normalize_origin(origin) not in allowed:
        raise Forbidden(
            f"pages of {origin[:200]!r} may not use this API; the operator allows them with RAYMART_ALLOWED_ORIGINS"
        )
