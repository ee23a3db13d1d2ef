"""Expected failures of a mutation: data in its payload, not errors of the request."""

from enum import Enum

import strawberry

from raymart_core.errors import DomainError, NoEndpoint
from raymart_graphql.enums import expose


class UserErrorCode(Enum):
    """The public code of an expected failure."""

    INVALID = "invalid_request"
    INVALID_CREDENTIALS = "invalid_api_key"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    BUDGET_EXCEEDED = "budget_exceeded"
    FORBIDDEN = "forbidden"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "payload_too_large"
    RATE_LIMITED = "rate_limit_exceeded"
    UPSTREAM_FAILED = "upstream_failed"
    NO_ENDPOINT = "no_endpoint"
    UNAVAILABLE = "service_unavailable"
    MODEL_OVERLOADED = "model_overloaded"
    SUSPENDED = "suspended"
    INFERENCE_DISABLED = "inference_disabled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    FAILED = "failed"


expose(
    UserErrorCode,
    name="UserErrorCode",
    description="Why a mutation could not do what was asked.",
    values={
        "INVALID": "A field's value cannot be served; `field` names it.",
        "INVALID_CREDENTIALS": "The e-mail address or the password is wrong.",
        "INSUFFICIENT_FUNDS": "The balance does not cover the upper bound of the request.",
        "BUDGET_EXCEEDED": "A budget does not cover the upper bound of the request; the message names it.",
        "FORBIDDEN": "Known, but not allowed.",
        "INSUFFICIENT_SCOPE": "The API key lacks the scope for this; the message names it.",
        "MODEL_NOT_ALLOWED": "The API key may not use this model.",
        "NOT_FOUND": "There is no such thing, or not for you.",
        "MODEL_NOT_FOUND": "No model has this slug; the message names the nearest.",
        "CONFLICT": "The thing exists already, or is no longer in the state that the change needs.",
        "TOO_LARGE": "The input is over a limit.",
        "RATE_LIMITED": "Too much at once; try again later.",
        "UPSTREAM_FAILED": "Every endpoint that was tried has failed.",
        "NO_ENDPOINT": "No endpoint meets the routing needs; `reasons` says why each was left out.",
        "UNAVAILABLE": "A part of the platform is away for the moment.",
        "MODEL_OVERLOADED": "More is asked of the model than its endpoints can do; the message says when to try again.",
        "SUSPENDED": "The organization, the person or the key is suspended.",
        "INFERENCE_DISABLED": "The marketplace serves no new requests for the moment.",
        "DEADLINE_EXCEEDED": "The request ran past its deadline.",
        "FAILED": "It failed for another reason.",
    },
)


@strawberry.type(description="An expected failure: what is wrong, where, and what to do.")
class UserError:
    """One reason why a mutation did nothing."""

    code: UserErrorCode = strawberry.field(description="Stable code to branch on.")
    field: list[str] | None = strawberry.field(
        description="Path of the input field that is wrong, when one is."
    )
    message: str = strawberry.field(description="A sentence for people: the value, the limit, the next step.")
    reasons: list[str] = strawberry.field(description="Details, such as why each endpoint was left out.")

    @classmethod
    def of(cls, error: DomainError) -> "UserError":
        """`error` as a mutation's payload carries it."""
        return cls(
            code=_CODES.get(error.code, UserErrorCode.FAILED),
            field=_path(error.param),
            message=error.message,
            reasons=list(error.reasons) if isinstance(error, NoEndpoint) else [],
        )


@strawberry.type
class Payload:
    """Base of every mutation's payload: its object, null on failure, and why."""

    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="Why nothing was done; empty when it was."
    )


_CODES = {code.value: code for code in UserErrorCode}


def _path(param: str | None) -> list[str] | None:
    """`max_tokens` or `messages[0].content` as the path of the input's fields: ["input", "maxTokens"]."""
    if not param:
        return None
    parts = param.replace("[", ".").replace("]", "").split(".")
    return ["input", *(_camel(part) for part in parts if part)]


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
