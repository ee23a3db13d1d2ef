"""Errors of a whole request: which code they carry, what is shown, what is only logged.

Expected failures of a mutation are data in its payload (`schema.user_error`). What remains is authentication,
validation, limits and faults of ours; each carries `extensions.code` and `extensions.requestId`.
"""

from enum import StrEnum

import psycopg
import psycopg_pool
import sqlalchemy.exc
import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType

from raymart_core.errors import DomainError
from raymart_marketplace.accounts.errors import EmailNotVerified, SecondFactorRequired

log = structlog.get_logger()

MESSAGE_CHARACTERS_MAX = 500
"""A message may repeat what the client sent; longer ones are cut."""


class ErrorCode(StrEnum):
    """Value of `extensions.code`."""

    GRAPHQL_PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    GRAPHQL_VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    BAD_REQUEST = "BAD_REQUEST"
    """The HTTP request carries no GraphQL request."""
    PERSISTED_QUERY_NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND"
    """Send the document along with its hash."""
    BAD_USER_INPUT = "BAD_USER_INPUT"
    """A variable's or argument's value is wrong."""
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    EMAIL_NOT_VERIFIED = "EMAIL_NOT_VERIFIED"
    """The person has yet to follow the link in the mail that verifies their address."""
    SECOND_FACTOR_REQUIRED = "SECOND_FACTOR_REQUIRED"
    """The session needs a fresh second factor: `confirmSecondFactor`."""
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    INTERNAL_SERVER_ERROR = "INTERNAL_SERVER_ERROR"


_BY_STATUS = {
    400: ErrorCode.BAD_USER_INPUT,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.CONFLICT,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    429: ErrorCode.RATE_LIMITED,
    502: ErrorCode.SERVICE_UNAVAILABLE,
    503: ErrorCode.SERVICE_UNAVAILABLE,
    504: ErrorCode.SERVICE_UNAVAILABLE,
}
_DATABASE_AWAY = (
    TimeoutError,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
    psycopg.OperationalError,
    psycopg_pool.PoolTimeout,
)


def shown(error: GraphQLError, *, request_id: str, before_execution: bool) -> GraphQLError:
    """`error` as the client sees it: coded, with the request's id, and masked when it is a fault of ours."""
    original = _root(error)
    message, code = error.message, _client_mistake(error, before_execution=before_execution)
    if isinstance(original, DomainError):
        message, code = original.message, code_of(original)
    elif isinstance(original, _DATABASE_AWAY):
        log.warning("database.away", request_id=request_id, error=type(original).__name__)
        message, code = "the database is away for the moment; try again", ErrorCode.SERVICE_UNAVAILABLE
    elif isinstance(original, InvalidOperationTypeError | CannotGetOperationTypeError):
        message, code = _wrong_operation(error, original), ErrorCode.BAD_REQUEST
    elif original is not None:
        log.error("operation.failed", request_id=request_id, path=error.path, exc_info=original)
        message = f"an internal error; quote {request_id} to support"
        code = ErrorCode.INTERNAL_SERVER_ERROR
    extensions = {"code": code.value, **(error.extensions or {}), "requestId": request_id}
    return GraphQLError(
        message[:MESSAGE_CHARACTERS_MAX],
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )


def code_of(error: DomainError) -> ErrorCode:
    """The code of an expected failure that no payload can carry."""
    if isinstance(error, EmailNotVerified):
        return ErrorCode.EMAIL_NOT_VERIFIED
    if isinstance(error, SecondFactorRequired):
        return ErrorCode.SECOND_FACTOR_REQUIRED
    return _BY_STATUS.get(error.status, ErrorCode.INTERNAL_SERVER_ERROR)


def _root(error: GraphQLError) -> BaseException | None:
    """What was raised, behind any GraphQLError around it."""
    found: BaseException | None = error.original_error
    while isinstance(found, GraphQLError):
        found = found.original_error
    return found


def _client_mistake(error: GraphQLError, *, before_execution: bool) -> ErrorCode:
    if isinstance(error, GraphQLSyntaxError):
        return ErrorCode.GRAPHQL_PARSE_FAILED
    return ErrorCode.GRAPHQL_VALIDATION_FAILED if before_execution else ErrorCode.BAD_USER_INPUT


def _wrong_operation(
    error: GraphQLError, original: InvalidOperationTypeError | CannotGetOperationTypeError
) -> str:
    """What to do about an operation that this request cannot run."""
    if isinstance(original, CannotGetOperationTypeError):
        return error.message
    if original.operation_type is OperationType.SUBSCRIPTION:
        return "a subscription is followed over graphql-transport-ws, or with `Accept: text/event-stream`"
    return f"a {original.operation_type.value} is not run by GET; send it with POST"
