"""One WebSocket of the route `/link`, as frames. Knows ASGI; knows nothing of nodes."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from raymart_core.wire.bundle import Frame, unpack_message
from raymart_core.wire.link import Control, FrameType, decode_control, encode, pack_frame

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

UNREADABLE = (ValueError, RecursionError)
"""What decoding hostile MessagePack raises: besides msgspec's own errors (ValueErrors), bad UTF-8 and deep nesting."""

CLOSE_NORMAL = 1000
CLOSE_REFUSED = 4000
CLOSE_SUPERSEDED = 4001
CLOSE_SILENT = 4002


class LinkClosed(Exception):
    """The peer is gone: close frame, EOF or a reset of the connection."""


class LinkEnded(Exception):
    """This end closes the link; `reason`, `message` and `retry` are those of `Refuse`."""

    def __init__(self, reason: str, message: str, *, close_code: int, retry: bool = True) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.close_code = close_code
        self.retry = retry


def protocol_error(message: str) -> LinkEnded:
    """The peer broke the protocol; the link is refused with what it did."""
    return LinkEnded("protocol", message, close_code=CLOSE_REFUSED, retry=True)


class LinkSocket:
    """Frames over one accepted WebSocket. One reader and one writer at a time."""

    __slots__ = ("_receive", "_send")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def accept(self) -> None:
        """Complete the WebSocket upgrade. Raises: LinkClosed."""
        opening = await self._receive()
        if opening["type"] != "websocket.connect":
            raise LinkClosed
        await self._send({"type": "websocket.accept"})

    async def read(self) -> Sequence[Frame]:
        """The next message's frames. Raises: LinkClosed; LinkEnded for anything that is not frames."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise LinkClosed
        data = message.get("bytes")
        if data is None:
            raise protocol_error("a text message; the link carries binary frames only")
        try:
            return unpack_message(data)
        except ValueError as error:
            raise protocol_error(str(error)) from None

    async def read_control(self, *, timeout_s: float) -> Control:
        """The next frame, which must be a control message. Raises: LinkClosed, LinkEnded, TimeoutError."""
        async with asyncio.timeout(timeout_s):
            frames = await self.read()
        kind, stream_id, payload = frames[0]
        if len(frames) > 1 or kind is not FrameType.CONTROL or stream_id != 0:
            raise protocol_error(f"a {kind.name} frame before the link is live; the handshake comes first")
        return read_control(payload)

    async def write(self, frame: bytes) -> None:
        """Send one frame; waits while the socket's buffer is full. Raises: LinkClosed."""
        try:
            await self._send({"type": "websocket.send", "bytes": frame})
        except (OSError, RuntimeError) as error:
            # The server says "disconnected" by an OSError, and "already closing" by a RuntimeError.
            raise LinkClosed from error

    async def write_control(self, message: Control) -> None:
        """Send one control message. Raises: LinkClosed."""
        await self.write(control_frame(message))

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame. Raises: LinkClosed when the peer is gone already."""
        try:
            # 123 bytes is what a close frame can carry (RFC 6455, section 5.5.1).
            await self._send(
                {
                    "type": "websocket.close",
                    "code": code,
                    "reason": reason.encode()[:120].decode(errors="ignore"),
                }
            )
        except (OSError, RuntimeError) as error:
            raise LinkClosed from error


def control_frame(message: Control) -> bytes:
    """`message` as one frame on stream 0."""
    return pack_frame(FrameType.CONTROL, 0, encode(message))


def read_control(payload: bytes) -> Control:
    """Decode a control message. Raises: LinkEnded when it is none."""
    try:
        message: Control = decode_control(payload)
    except UNREADABLE as error:
        raise protocol_error(f"a control message that cannot be read: {error}") from None
    return message
