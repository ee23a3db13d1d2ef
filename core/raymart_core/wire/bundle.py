"""Several frames of the link in one WebSocket message.

A message costs each end a system call, a WebSocket header and, where it is read, a turn of the event loop; chunks of
many streams that become due together share one. After the header of a frame of type BUNDLE on stream 0 come the
frames: length (u32, big endian), then the frame as it would travel alone. A bundle's payload is at most
`FRAME_BYTES_MAX`, like any frame's; bundles do not nest.
"""

import struct
from collections.abc import Sequence

from raymart_core.wire.link import FRAME_BYTES_MAX, HEADER_BYTES, FrameType, pack_frame, unpack_frame

_LENGTH = struct.Struct("!I")
_ENTRY = struct.Struct("!IBI")
"""Length of a frame, and the frame's header."""
ENTRY_OVERHEAD_BYTES = _LENGTH.size
"""What a frame takes in a bundle beyond itself."""
_BUNDLE_HEADER = pack_frame(FrameType.BUNDLE, 0)
# An index is a third of what a call of the enumeration costs, and each chunk of each stream passes here.
_KINDS = tuple(kind for kind in FrameType if kind is not FrameType.BUNDLE)

Frame = tuple[FrameType, int, bytes]
"""Type, stream id and payload."""


def pack_bundle(frames: Sequence[bytes]) -> bytes:
    """One message of packed `frames`, in order. They and their lengths must fit into `FRAME_BYTES_MAX`."""
    parts = [_BUNDLE_HEADER]
    pack_length = _LENGTH.pack
    for frame in frames:
        parts.append(pack_length(len(frame)))
        parts.append(frame)
    message = b"".join(parts)
    assert len(message) <= HEADER_BYTES + FRAME_BYTES_MAX
    return message


def unpack_message(message: bytes) -> Sequence[Frame]:
    """The frames of a WebSocket message, bundle or not, in order.

    Raises: ValueError for what is no frame, and for a bundle that is empty, nested or cut short.
    """
    kind, stream_id, payload = unpack_frame(message)
    if kind is not FrameType.BUNDLE:
        return ((kind, stream_id, payload),)
    if stream_id != 0 or not payload:
        raise ValueError(
            f"a bundle of {len(payload)} bytes on stream {stream_id}; bundles have frames and stream 0"
        )
    return _unpack_entries(payload)


def _unpack_entries(payload: bytes) -> list[Frame]:
    """Raises: ValueError."""
    frames: list[Frame] = []
    unpack_entry = _ENTRY.unpack_from
    end, offset = len(payload), 0
    try:
        while offset < end:
            length, kind, stream_id = unpack_entry(payload, offset)
            start = offset + _ENTRY.size
            offset += ENTRY_OVERHEAD_BYTES + length
            if length < HEADER_BYTES or offset > end:
                raise ValueError(
                    f"a frame of {length} bytes in a bundle that has {end - start + HEADER_BYTES} left"
                )
            frames.append((_KINDS[kind], stream_id, payload[start:offset]))
    except (struct.error, IndexError) as error:
        raise ValueError(f"a bundle that cannot be read: {error}") from None
    return frames
