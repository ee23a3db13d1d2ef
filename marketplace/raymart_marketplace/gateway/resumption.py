"""What a customer says and is told of answers that are taken up in their middle, in any text surface."""

import dataclasses

import msgspec
from msgspec.structs import replace
from starlette.types import Scope

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.body import header
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.events import Broken, Finished, Resumed
from raymart_marketplace.gateway.request import ChatRequest

KEEPALIVE = b": RAYMART PROCESSING\n\n"
"""A comment among server-sent events: clients skip it, and proxies see that the stream lives."""
RESUME_HEADER = b"x-raymart-resume"
"""The same as `provider.allow_resume` in the body, for clients that send what they like only in headers."""

_encode = msgspec.json.Encoder().encode


class Failover(msgspec.Struct, frozen=True):
    """`failover` in the last chunk of a stream that lost an endpoint."""

    attempts: int
    """Endpoints that were asked."""
    resumed: tuple[Resumed, ...]


def failover_of(ended: Finished | Broken) -> Failover | None:
    """What to tell; nothing of an answer that never broke."""
    return Failover(attempts=ended.attempts, resumed=ended.resumed) if ended.resumed else None


def failover_field(ended: Finished | Broken) -> bytes:
    """The same as a field of a JSON object, after another one."""
    told = failover_of(ended)
    return b"" if told is None else b',"failover":%b' % _encode(told)


def as_wished(asked: Asked, scope: Scope) -> Asked:
    """`asked` with what the header says. Raises: InvalidRequest."""
    given = header(scope, RESUME_HEADER)
    if given is None or given == b"on":
        return asked
    if given != b"off":
        name = RESUME_HEADER.decode()
        raise InvalidRequest(f"{name} is {given[:20]!r}; it is 'on' or 'off'", param=name)
    return replace(
        asked,
        choices=tuple(map(_unresumed, asked.choices)),
        fallbacks=tuple(map(_unresumed, asked.fallbacks)),
    )


def _unresumed(request: ChatRequest) -> ChatRequest:
    return replace(request, routing=dataclasses.replace(request.routing, allow_resume=False))
