"""Errors that people see. Each says what is wrong, the value, the limit and the next step (ADR 0007).

    RaymartError
    └── DomainError (code, status, error_type)
        ├── InvalidRequest 400          the request is wrong; `param` names the field
        ├── NotAuthenticated 401        no key or token, or a wrong one
        ├── InsufficientFunds 402       the balance does not cover the request's upper bound
        ├── Forbidden 403               known, but not allowed
        ├── NotFound 404                no such thing, or not yours
        │   └── ModelNotFound           names the nearest model
        ├── Conflict 409                the thing changed or exists already
        ├── PayloadTooLarge 413
        ├── Overloaded 429              try again later; `retry_after_s`
        ├── UpstreamFailed 502          every endpoint tried has failed
        ├── NoEndpoint 503              nothing meets the routing needs; carries the reasons
        ├── Unavailable 503             a part of the platform is away
        └── DeadlineExceeded 504

A bug is any other exception; the edge answers 500 with a request id and logs the traceback.
"""

from collections.abc import Sequence
from typing import ClassVar


class RaymartError(Exception):
    """Root of what this code raises on purpose."""


class DomainError(RaymartError):
    """An expected failure with an HTTP `status`, a stable `code` and a sentence safe to show."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "server_error"
    """OpenAI's `type`: invalid_request_error, authentication_error, insufficient_quota, server_error, ..."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        """The request field that is wrong, as a dotted path, when one is."""


class InvalidRequest(DomainError):
    """The request cannot be served as it stands; `param` names the field."""

    code = "invalid_request"
    status = 400
    error_type = "invalid_request_error"


class NotAuthenticated(DomainError):
    """No credentials, or credentials that are wrong, expired or revoked. Nothing is written."""

    code = "invalid_api_key"
    status = 401
    error_type = "authentication_error"


class InsufficientFunds(DomainError):
    """The balance does not cover the upper bound of the request."""

    code = "insufficient_funds"
    status = 402
    error_type = "insufficient_quota"


class Forbidden(DomainError):
    """The caller is known but has no right to this."""

    code = "forbidden"
    status = 403
    error_type = "permission_error"


class NotFound(DomainError):
    """There is no such thing, or none that the caller may see."""

    code = "not_found"
    status = 404
    error_type = "invalid_request_error"


class ModelNotFound(NotFound):
    """No model has this slug."""

    code = "model_not_found"

    def __init__(self, slug: str, *, nearest: str | None) -> None:
        hint = f"; did you mean {nearest!r}?" if nearest else "; GET /v1/models lists what is served"
        super().__init__(f"model {slug!r} does not exist{hint}", param="model")
        self.slug = slug
        self.nearest = nearest


class Conflict(DomainError):
    """The thing exists already, or is no longer in the state that the change needs."""

    code = "conflict"
    status = 409
    error_type = "invalid_request_error"


class PayloadTooLarge(DomainError):
    """The body is over the limit."""

    code = "payload_too_large"
    status = 413
    error_type = "invalid_request_error"


class Overloaded(DomainError):
    """Too much at once; try again after `retry_after_s` seconds."""

    code = "rate_limit_exceeded"
    status = 429
    error_type = "rate_limit_error"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UpstreamFailed(DomainError):
    """Every endpoint that was tried failed before its first token."""

    code = "upstream_failed"
    status = 502


class NoEndpoint(DomainError):
    """No endpoint meets the request's routing needs; `reasons` says why each was left out."""

    code = "no_endpoint"
    status = 503

    def __init__(
        self, message: str, *, reasons: Sequence[str] = (), retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)
        self.retry_after_s = retry_after_s
        """When it may be otherwise; None where nobody knows."""


class Unavailable(DomainError):
    """A part of the platform is away for the moment."""

    code = "service_unavailable"
    status = 503


class DeadlineExceeded(DomainError):
    """The request ran past its deadline."""

    code = "deadline_exceeded"
    status = 504
