"""What two siblings say to each other: length (u32, big endian), then a frame of the link (`raymart_core.wire.link`).

On stream 0 CONTROL is one of the messages below. Another stream is a request on a node that the other process has the
link of: CONTROL with the node's id opens it, and answers it as `Failure` where it fails in between; the frames in between
are the link's own, under another stream id. The elder's requests have odd ids, the younger's even ones.

Both ends are the same program, but for the minutes of an upgrade: `VERSION` tells whether they understand each other.
"""

import struct
from collections.abc import Sequence
from uuid import UUID

import msgspec

from raymart_core.units import Fault
from raymart_core.wire.bundle import Frame
from raymart_core.wire.link import HEADER_BYTES, FrameType, Replica
from raymart_marketplace.supply.enrolment import NodeIdentity

VERSION = 1
"""Raise it with every change of what is below, of `NodeIdentity` or of `Replica`."""
FRAME_BYTES_MAX = 16 * 1024 * 1024
"""Largest payload; only announcements come near 1 % of it."""

_LENGTH = struct.Struct("!I")
_HEADER = struct.Struct("!IBI")
_KINDS = tuple(FrameType)


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The first message of either end."""

    version: int


class Up(msgspec.Struct, frozen=True, array_like=True, tag="up"):
    """The sender has a link of the node."""

    node: NodeIdentity
    is_new: bool
    """Whether the link has come just now; otherwise it may be older than another one's."""


class Announced(msgspec.Struct, frozen=True, array_like=True, tag="announced"):
    """All that the node has now."""

    node_id: UUID
    replicas: tuple[Replica, ...]


class Draining(msgspec.Struct, frozen=True, array_like=True, tag="draining"):
    """The node takes no new requests."""

    node_id: UUID


class Down(msgspec.Struct, frozen=True, array_like=True, tag="down"):
    """The sender has no link of the node any more."""

    node_id: UUID


class Look(msgspec.Struct, frozen=True, array_like=True, tag="look"):
    """What the database says of the node has changed, or can be read only now."""

    node_id: UUID


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="settled"):
    """The sender has said all that was true when the two met."""


class Loads(msgspec.Struct, frozen=True, array_like=True, tag="loads"):
    """How much runs where, as far as it has changed."""

    running: dict[UUID, dict[str, int]]
    """By node and replica: what a node of the sender's last reported."""
    leased: dict[UUID, dict[str, int]]
    """By node and replica, of any node: requests of the sender's; 0 where there are none any more."""


NodeMessage = Up | Announced | Draining | Down | Look
Message = Hello | NodeMessage | Settled | Loads


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """Why a stream ended in between."""

    reason: str
    fault: Fault


decode_message = msgspec.msgpack.Decoder(Message).decode
decode_failure = msgspec.msgpack.Decoder(Failure).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(frame: bytes) -> bytes:
    """A packed frame of the link, as it travels between siblings."""
    return _LENGTH.pack(len(frame)) + frame


def pack_message(message: Message) -> bytes:
    """`message`, ready to be written."""
    return _control(0, _encode(message))


def pack_open(stream_id: int, node_id: UUID) -> bytes:
    """The beginning of a request on the node."""
    return _control(stream_id, node_id.bytes)


def pack_failure(stream_id: int, failure: Failure) -> bytes:
    """The end of one."""
    return _control(stream_id, _encode(failure))


class Unpacker:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._part = bytearray()
        self._needs = 0

    def feed(self, data: bytes) -> Sequence[Frame]:
        """The frames that are whole now. Raises: ValueError for what is no frame."""
        if self._part:
            self._part += data
            if len(self._part) < self._needs:
                return ()
            data = bytes(self._part)
            self._part.clear()
        frames: list[Frame] = []
        offset, end = 0, len(data)
        self._needs = _HEADER.size
        while end - offset >= _HEADER.size:
            length, kind, stream_id = _HEADER.unpack_from(data, offset)
            if not HEADER_BYTES <= length <= FRAME_BYTES_MAX or kind >= len(_KINDS):
                raise ValueError(f"a frame of type {kind} with {length} bytes")
            stop = offset + _LENGTH.size + length
            if stop > end:
                self._needs = stop - offset
                break
            frames.append((_KINDS[kind], stream_id, data[offset + _HEADER.size : stop]))
            offset = stop
        self._part += data[offset:]
        return frames


def _control(stream_id: int, payload: bytes) -> bytes:
    # Not `pack_frame`: what a node with hundreds of replicas announces is larger than a frame of the link may be.
    assert len(payload) <= FRAME_BYTES_MAX - HEADER_BYTES
    return _HEADER.pack(HEADER_BYTES + len(payload), FrameType.CONTROL, stream_id) + payload
