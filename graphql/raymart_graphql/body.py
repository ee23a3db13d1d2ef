"""GraphQL requests out of HTTP, before any library sees them: bounded, strict, and never the cause of a 500."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from strawberry.http import GraphQLRequestData

from raymart_core.errors import InvalidRequest, PayloadTooLarge

BODY_TIMEOUT_S = 30.0
"""A body that arrives slower than this is given up."""
QUERY_CHARACTERS_MAX = 50_000
"""Parsed documents are cached by their text, so this bounds the cache as well."""
JSON_DEPTH_MAX = 32
"""Nesting of `variables` and `extensions`; inputs of the schema nest four deep."""


class UnsupportedMedia(InvalidRequest):
    """A body that is not JSON."""

    status = 415


Kind = TypeVar("Kind", bound=object)
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


async def read_body(receive: Receive, *, bytes_max: int) -> bytes:
    """The whole request body.

    Raises: PayloadTooLarge over `bytes_max`, InvalidRequest when it does not arrive in time, ClientDisconnect.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > bytes_max:
                    raise PayloadTooLarge(f"the body is over {bytes_max} bytes; send a smaller request")
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise InvalidRequest(f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from None


def decode_json(data: str | bytes) -> object:
    """Strict JSON: UTF-8 without lone surrogates, no NaN, numbers and nesting bounded. Raises: InvalidRequest."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"the request is not valid JSON: {str(error)[:200]}") from None


def query_parameters(given: Mapping[str, str]) -> GraphQLRequestData:
    """A GraphQL request out of a GET's query string. Raises: InvalidRequest."""
    parameters: dict[str, Any] = dict(given)
    for name in ("variables", "extensions"):
        if parameters.get(name):
            parameters[name] = decode_json(parameters[name])
    return request_data(parameters)


def posted(request: Request, body: bytes) -> GraphQLRequestData:
    """A GraphQL request out of a POST. Raises: InvalidRequest, UnsupportedMedia."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        # Forms and plain text are what a foreign page may send without asking.
        raise UnsupportedMedia("send the request as `content-type: application/json`")
    return request_data(decode_json(body))


def request_data(payload: object) -> GraphQLRequestData:
    """A GraphQL request's parameters out of a decoded body or query string. Raises: InvalidRequest."""
    if not isinstance(payload, dict):
        raise InvalidRequest("a GraphQL request is one JSON object with `query`; batches are not accepted")
    query = _field(payload, "query", str)
    extensions = _field(payload, "extensions", dict)
    is_persisted = query is None and extensions is not None and "persistedQuery" in extensions
    if not query and not is_persisted:
        raise InvalidRequest("`query` is missing", param="query")
    if query is not None and len(query) > QUERY_CHARACTERS_MAX:
        raise InvalidRequest(
            f"`query` has {len(query)} characters; the limit is {QUERY_CHARACTERS_MAX}, long text goes into `variables`",
            param="query",
        )
    variables = _field(payload, "variables", dict)
    if _deeper_than(variables, JSON_DEPTH_MAX) or _deeper_than(extensions, JSON_DEPTH_MAX):
        raise InvalidRequest(f"`variables` and `extensions` nest at most {JSON_DEPTH_MAX} deep")
    return GraphQLRequestData(
        query=query,
        variables=variables,
        operation_name=_field(payload, "operationName", str),
        extensions=extensions,
    )


def _field(payload: dict[Any, Any], name: str, kind: type[Kind]) -> Kind | None:
    value = payload.get(name)
    if value is None or isinstance(value, kind):
        return value
    shape = "a string" if kind is str else "an object"
    raise InvalidRequest(f"`{name}` must be {shape} or null", param=name)


def _deeper_than(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_deeper_than(item, levels - 1) for item in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_deeper_than(item, levels - 1) for item in value)
    return False
