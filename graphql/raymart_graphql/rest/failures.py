"""What a REST client sees when it fails: the error object of `/v1`, on every route and for every failure."""

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from raymart_core.errors import (
    DomainError,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from raymart_core.ids import Prefix, new_id, show
from raymart_graphql.outage import DATABASE_AWAY
from raymart_marketplace.gateway.error_reply import InternalError, MethodNotAllowed
from raymart_marketplace.gateway.retry_after import retry_after_s

log = structlog.get_logger(__name__)

REQUEST_ID_HEADER = "x-request-id"


class ErrorMetadata(BaseModel):
    """What OpenAI's error object has no place for."""

    error_type: str = Field(description="Stable code of the failure, the same on every surface.")
    request_id: str = Field(description="Quote it to support.")


class ErrorBody(BaseModel):
    """One failure."""

    message: str = Field(description="What is wrong, and what to do.")
    type: str = Field(description="OpenAI's kind of error, such as `invalid_request_error`.")
    param: str | None = Field(description="The field that is wrong, as a dotted path.")
    code: str = Field(description="Stable code of the failure.")
    metadata: ErrorMetadata


class ErrorDocument(BaseModel):
    """The body of every answer of 400 and above."""

    error: ErrorBody


def handle_failures(app: FastAPI) -> None:
    """Answer every failure of `app`'s REST routes as an `ErrorDocument`."""
    app.add_exception_handler(DomainError, _domain)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    for away in DATABASE_AWAY:
        app.add_exception_handler(away, _away)
    app.add_exception_handler(Exception, _bug)


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these."""
    return {status: {"model": ErrorDocument} for status in statuses}


def failure(error: DomainError) -> Response:
    """`error` as an answer."""
    request_id = show(Prefix.REQUEST, new_id())
    return _answer(error, request_id, {})


async def _domain(_request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)
    return failure(error)


async def _validation(_request: Request, error: Exception) -> Response:
    """FastAPI found the request's shape wrong."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    field = ".".join(place)[:200]
    # Neither the value nor FastAPI's context: a join token or a signature may stand there.
    return failure(InvalidRequest(f"{field or 'the body'}: {first['msg']}"[:300], param=field or None))


async def _http(_request: Request, error: Exception) -> Response:
    """Starlette's own: an unknown path, a wrong method, a body that is no JSON."""
    assert isinstance(error, HTTPException)
    known = _OF_STATUS.get(error.status_code) or InvalidRequest(error.detail)
    return _answer(known, show(Prefix.REQUEST, new_id()), error.headers or {})


async def _away(_request: Request, error: Exception) -> Response:
    log.warning("request.database_away", error=type(error).__name__)
    return failure(Unavailable("the database does not answer for the moment; try again in a few seconds"))


async def _bug(request: Request, error: Exception) -> Response:
    request_id = show(Prefix.REQUEST, new_id())
    log.error("request.bug", request_id=request_id, path=request.url.path, exc_info=error)
    return _answer(
        InternalError(f"internal error; report it with the request id {request_id}"), request_id, {}
    )


_OF_STATUS: Mapping[int, DomainError] = {
    404: NotFound("there is nothing at this path; /docs lists what there is"),
    405: MethodNotAllowed("this path does not take that method; the `Allow` header names those it takes"),
}


def _answer(error: DomainError, request_id: str, headers: Mapping[str, str]) -> Response:
    body = {
        "error": {
            "message": error.message,
            "type": error.error_type,
            "param": error.param,
            "code": error.code,
            "metadata": {"error_type": error.code, "request_id": request_id},
        }
    }
    sent = {**headers, REQUEST_ID_HEADER: request_id, "cache-control": "no-store"}
    if isinstance(error, NotAuthenticated):
        sent["www-authenticate"] = "Bearer"
    seconds = retry_after_s(error)
    if seconds is not None:
        sent["retry-after"] = str(seconds)
    return Response(
        msgspec.json.encode(body), status_code=error.status, media_type="application/json", headers=sent
    )
