"""Errors in OpenAI's shape, with our stable `metadata.error_type` and the request's id.

`{"error": {"message", "type", "param", "code", "metadata": {"error_type", "request_id", ...}}}`
"""

from uuid import UUID

import msgspec
import structlog
from starlette.types import Send

from raymart_core.errors import (
    DomainError,
    ModelNotFound,
    NoEndpoint,
    NotAuthenticated,
    Overloaded,
)
from raymart_core.ids import Prefix, show

log = structlog.get_logger(__name__)


class Metadata(msgspec.Struct, omit_defaults=True):
    """What OpenAI's shape has no place for."""

    error_type: str
    """Stable across surfaces; `code` follows each client's habits."""
    request_id: str
    reasons: tuple[str, ...] = ()
    """Why each endpoint was left out of routing."""
    nearest: str | None = None
    """The model that was probably meant."""


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
        ),
    )


async def send_error(send: Send, error: DomainError, *, request_id: UUID) -> None:
    """Answer with `error`. Nothing may have been sent before."""
    body = _encode(ErrorReply(error=error_object(error, request_id=request_id)))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", show(Prefix.REQUEST, request_id).encode()),
    ]
    if isinstance(error, NotAuthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, Overloaded):
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def internal_error(error: Exception, *, request_id: UUID) -> InternalError:
    """Log a bug and give what may be shown of it."""
    shown = show(Prefix.REQUEST, request_id)
    log.error("request.bug", request_id=shown, exc_info=error)
    return InternalError(f"internal error; report it with the request id {shown}")
