"""Errors in OpenAI's shape, with our stable `metadata.error_type` and the request's id.

`{"error": {"message", "type", "param", "code", "metadata": {"error_type", "request_id", ...}}}`
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec
import structlog
from starlette.types import Send

from raymart_core.errors import (
    DomainError,
    ModelNotFound,
    NoEndpoint,
    NotAuthenticated,
)
from raymart_core.ids import Prefix, show
from raymart_marketplace.gateway.rate_limits.limits import RateLimited
from raymart_marketplace.gateway.retry_after import retry_after_s

log = structlog.get_logger(__name__)


class LimitObject(msgspec.Struct):
    """A limit."""

    level: str
    """`organization`, `project` or `api_key`."""
    kind: str
    """`requests` or `tokens`, in a minute, or `concurrency`."""
    limit: int


class Metadata(msgspec.Struct, omit_defaults=True):
    """What OpenAI's shape has no place for."""

    error_type: str
    """Stable across surfaces; `code` follows each client's habits."""
    request_id: str
    reasons: tuple[str, ...] = ()
    """Why each endpoint was left out of routing."""
    nearest: str | None = None
    """The model that was probably meant."""
    limit: LimitObject | None = None
    """The limit that is reached."""


class ErrorObject(msgspec.Struct):
    """OpenAI's error object; all four of its fields are always there."""

    message: str
    type: str
    param: str | None
    code: str | None
    metadata: Metadata


class ErrorReply(msgspec.Struct):
    """The whole body."""

    error: ErrorObject


class MethodNotAllowed(DomainError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405
    error_type = "invalid_request_error"


class InternalError(DomainError):
    """A bug of ours; the log has the traceback under the request's id."""


_encode = msgspec.json.Encoder().encode


def error_object(error: DomainError, *, request_id: UUID) -> ErrorObject:
    """`error` as clients see it."""
    return ErrorObject(
        message=error.message,
        type=error.error_type,
        param=error.param,
        code=error.code,
        metadata=Metadata(
            error_type=error.code,
            request_id=show(Prefix.REQUEST, request_id),
            reasons=error.reasons if isinstance(error, NoEndpoint) else (),
            nearest=error.nearest if isinstance(error, ModelNotFound) else None,
            limit=LimitObject(level=error.level.value, kind=error.kind.value, limit=error.limit)
            if isinstance(error, RateLimited)
            else None,
        ),
    )


async def send_error(
    send: Send, error: DomainError, *, request_id: UUID, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with `error`, and with `headers` beside its own. Nothing may have been sent before."""
    body = _encode(ErrorReply(error=error_object(error, request_id=request_id)))
    sent = [
        *headers,
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", show(Prefix.REQUEST, request_id).encode()),
    ]
    if isinstance(error, NotAuthenticated):
        sent.append((b"www-authenticate", b"Bearer"))
    seconds = retry_after_s(error)
    if seconds is not None:
        sent.append((b"retry-after", b"%d" % seconds))
    await send({"type": "http.response.start", "status": error.status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


def internal_error(error: Exception, *, request_id: UUID) -> InternalError:
    """Log a bug and give what may be shown of it."""
    shown = show(Prefix.REQUEST, request_id)
    log.error("request.bug", request_id=shown, exc_info=error)
    return InternalError(f"internal error; report it with the request id {shown}")
