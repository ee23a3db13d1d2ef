"""Reading `POST /v1/generate`. The gateway checked the same ranges; a replica trusts nobody's checks."""

import msgspec

from raymart_core.wire.replica import GenerateRequest, Sampling, decode_generate_request
from raymart_serve.engines.protocol import RequestRefused

STOPS_MAX = 4
STOP_LENGTH_MAX = 256
MESSAGES_MAX = 2048
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a body raises: not JSON or not of the type, not UTF-8, nested too deeply."""


def read_generate_request(body: bytes) -> GenerateRequest:
    """The request in `body`, all ranges checked. Raises: RequestRefused with the field's name."""
    try:
        request = decode_generate_request(body)
    except UNREADABLE as error:
        raise refused_body(error) from error
    _check_prompt(request)
    _check_sampling(request.sampling)
    return request


def refused_body(error: Exception) -> RequestRefused:
    """What to answer to a body that could not be decoded; `param` is the field that msgspec complains of."""
    if isinstance(error, msgspec.ValidationError):
        return RequestRefused(f"the request does not fit: {error}", param=_field(str(error)))
    return RequestRefused(f"the body is not JSON: {error}", param="body")


def _check_prompt(request: GenerateRequest) -> None:
    given = [
        name
        for name, value in (
            ("messages", request.messages),
            ("prompt", request.prompt),
            ("prompt_ids", request.prompt_ids),
        )
        if value is not None
    ]
    if len(given) != 1:
        raise RequestRefused(
            f"exactly one of messages, prompt and prompt_ids must be given, not {', '.join(given) or 'none'}",
            param=given[1] if given else "messages",
        )
    if not (request.messages or request.prompt or request.prompt_ids):
        raise RequestRefused(f"{given[0]} must not be empty", param=given[0])
    if request.messages and len(request.messages) > MESSAGES_MAX:
        count = len(request.messages)
        raise RequestRefused(
            f"messages has {count} items, at most {MESSAGES_MAX} are taken", param="messages"
        )


def _check_sampling(sampling: Sampling) -> None:
    check_range("max_tokens", sampling.max_tokens, holds=sampling.max_tokens >= 1, limit="at least 1")
    check_range("temperature", sampling.temperature, holds=0 <= sampling.temperature <= 2, limit="0 to 2")
    check_range("top_p", sampling.top_p, holds=0 < sampling.top_p <= 1, limit="above 0, at most 1")
    if sampling.seed is not None:
        check_range("seed", sampling.seed, holds=0 <= sampling.seed < 2**32, limit="0 to 2**32 - 1")
    if sampling.top_logprobs is not None:
        holds = 0 <= sampling.top_logprobs <= 20
        check_range("top_logprobs", sampling.top_logprobs, holds=holds, limit="0 to 20")
    holds = len(sampling.stop) <= STOPS_MAX and all(
        1 <= len(stop) <= STOP_LENGTH_MAX for stop in sampling.stop
    )
    limit = f"at most {STOPS_MAX} strings of 1 to {STOP_LENGTH_MAX} characters"
    check_range("stop", f"{len(sampling.stop)} strings", holds=holds, limit=limit)


def check_range(param: str, value: object, *, holds: bool, limit: str) -> None:
    """Go on when the value of `param` `holds` its `limit`. Raises: RequestRefused."""
    if not holds:
        raise RequestRefused(f"{param} is {value!r}; it must be {limit}", param=param)


def _field(message: str) -> str:
    """The name of the wrong field in msgspec's message; "body" where it names none.

    Forms: "Object missing required field `sampling`", "Expected `int`, got `str` - at `$.sampling.max_tokens`".
    """
    _, missing, rest = message.partition("missing required field `")
    if missing:
        return rest.partition("`")[0]
    _, located, path = message.partition(" - at `$")
    names = [name for name in path.strip("`").split(".") if name] if located else []
    return names[-1].partition("[")[0] if names else "body"
