"""A finished request as bytes: what is spilled while PostgreSQL is away, and what a running stream's checkpoint holds.

One byte of version, then MessagePack of the record's fields by their names. Names make it forward compatible: a field
that a newer release adds with a default may be absent, and a field that is not known here is passed over. Only a change
that gives a field another meaning needs a new version.
"""

from uuid import UUID

import msgspec
from msgspec.structs import replace

from raymart_core.errors import RaymartError
from raymart_core.ports import FinishedRequest

VERSION = 1

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(FinishedRequest)


class _Named(msgspec.Struct):
    """What can mostly still be read of a record that is broken elsewhere."""

    id: UUID


_NAME_DECODER = msgspec.msgpack.Decoder(_Named)


class UnreadableRecord(RaymartError):
    """The bytes are no record that this release understands."""


def encode(request: FinishedRequest) -> bytes:
    """`request` as bytes, a kilobyte or so. Text that PostgreSQL cannot store is replaced, as in its rows."""
    return bytes((VERSION,)) + _ENCODER.encode(storable_request(request))


def decode(record: bytes) -> FinishedRequest:
    """What `encode` was given. Raises: UnreadableRecord."""
    if not record or record[0] != VERSION:
        found = record[0] if record else "none"
        raise UnreadableRecord(
            f"a record of version {found}, and this release reads version {VERSION}; use the newer"
        )
    try:
        return _DECODER.decode(memoryview(record)[1:])
    except (msgspec.MsgspecError, ValueError, AssertionError, RecursionError) as error:
        raise UnreadableRecord(f"no finished request: {error}") from error


def request_id_of(record: bytes) -> UUID | None:
    """The id of the request that `record` is about, if that much of it can be read."""
    try:
        return _NAME_DECODER.decode(memoryview(record)[1:]).id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def storable_request(request: FinishedRequest) -> FinishedRequest:
    """`request` with text that PostgreSQL can store."""
    attempts = tuple(replace(attempt, reason=storable(attempt.reason)) for attempt in request.attempts)
    return replace(request, model_asked=storable(request.model_asked), attempts=attempts)


def storable(text: str) -> str:
    """`text` from outside without what PostgreSQL cannot store: NUL and half surrogates become "?"."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode()
