"""`GET /objects/...`: an object to whoever has a signed URL, whole or a range of it.

Raw ASGI, because weights of many gigabytes leave here: a chunk in memory, and no framework between. An object never
changes, so that what was fetched may be kept for as long as the URL is good.
Source: RFC 9110, sections 13 (conditions) and 14 (ranges); several ranges at once are answered with the whole.
"""

import re
from urllib.parse import parse_qs

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from raymart_core.errors import DomainError, Forbidden
from raymart_marketplace.gateway.body import header
from raymart_marketplace.gateway.endpoint import Answer
from raymart_marketplace.gateway.error_reply import MethodNotAllowed, internal_error
from raymart_marketplace.objects.keys import checked, media_type
from raymart_marketplace.objects.signing import EXPIRES_PARAM, SIGNATURE_PARAM
from raymart_marketplace.objects.store import Objects, StoredObject

OBJECTS_PREFIX = "/objects"
FIELDS_MAX = 8
"""Parameters of a URL that are read."""

_RANGE = re.compile(rb"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")


class RangeNotSatisfiable(DomainError):
    """No byte of the object lies in the range."""

    code = "range_not_satisfiable"
    status = 416
    error_type = "invalid_request_error"


def object_routes(objects: Objects) -> list[Route]:
    """The route."""
    return [
        Route(
            f"{OBJECTS_PREFIX}/{{key:path}}", ObjectsRoute(objects), name="objects", include_in_schema=False
        )
    ]


class ObjectsRoute:
    """Serves objects of a store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors have the shape of `/v1`."""
        answer = Answer(send)
        try:
            await self._serve(scope, answer)
        except DomainError as error:
            if answer.begun:
                raise
            await answer.fail(error)
        except Exception as error:
            if answer.begun:
                raise
            await answer.fail(internal_error(error, request_id=answer.request_id))

    async def _serve(self, scope: Scope, answer: Answer) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"{scope['method']} is not allowed here; use GET or HEAD")
        key = checked(str(scope["path_params"]["key"]))
        left_s = self._left_s(scope, key)
        stored = await self._objects.head(key)
        headers = [*_headers(stored, left_s=left_s)]
        if _is_known(scope, stored):
            await answer.start(304, headers)
            return await answer.write(b"", more=False)
        start, end = _asked(scope, stored) or (0, stored.size_bytes)
        headers.append((b"content-length", str(end - start).encode()))
        status = 200
        if (start, end) != (0, stored.size_bytes):
            status = 206
            headers.append((b"content-range", f"bytes {start}-{end - 1}/{stored.size_bytes}".encode()))
        if scope["method"] == "HEAD" or start == end:
            await answer.start(status, headers)
            return await answer.write(b"", more=False)
        # Opened before the head is sent: what fails now can still be said.
        reading = await self._objects.open(key, start=start, end=end)
        await answer.start(status, headers)
        async for chunk in reading.chunks():
            await answer.write(chunk, more=True)
        return await answer.write(b"", more=False)

    def _left_s(self, scope: Scope, key: str) -> float:
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=FIELDS_MAX)
        except ValueError:
            raise Forbidden(
                f"the URL has more than {FIELDS_MAX} parameters; use a signed URL as it is"
            ) from None
        expires, signature = (query.get(name, [""])[0] for name in (EXPIRES_PARAM, SIGNATURE_PARAM))
        return self._objects.signer.left_s(key, expires=expires, signature=signature)


def _headers(stored: StoredObject, *, left_s: float) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", media_type(stored.key).encode()),
        (b"etag", stored.e_tag.encode()),
        (b"last-modified", f"{stored.modified_at:%a, %d %b %Y %H:%M:%S} GMT".encode()),
        (b"accept-ranges", b"bytes"),
        # Private: a shared cache would go on serving who has no URL any more.
        (b"cache-control", f"private, max-age={int(left_s)}, immutable".encode()),
        # Pages may show an image from here; nothing from here may act as a page of ours.
        (b"access-control-allow-origin", b"*"),
        (b"cross-origin-resource-policy", b"cross-origin"),
        (b"content-security-policy", b"default-src 'none'; sandbox"),
        (b"x-content-type-options", b"nosniff"),
    ]


def _is_known(scope: Scope, stored: StoredObject) -> bool:
    """Whether the client has these bytes already."""
    known = header(scope, b"if-none-match")
    return known is not None and (known.strip() == b"*" or stored.e_tag.encode() in known)


def _asked(scope: Scope, stored: StoredObject) -> tuple[int, int] | None:
    """The range that is asked for; None for the whole. Raises: RangeNotSatisfiable."""
    wanted = _RANGE.fullmatch(header(scope, b"range") or b"")
    unchanged_since = header(scope, b"if-range")
    if wanted is None or (unchanged_since is not None and unchanged_since != stored.e_tag.encode()):
        return None  # Units and shapes that are not known are ignored, as the RFC says.
    first, last = wanted["first"], wanted["last"]
    size = stored.size_bytes
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        return None
    if start >= end:
        raise RangeNotSatisfiable(f"the object has {size} bytes; ask for some of them")
    return start, end
