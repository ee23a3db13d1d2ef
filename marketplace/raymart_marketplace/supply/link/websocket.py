"""uvicorn's WebSocket protocol, for a process that has ten thousand links besides a browser's subscriptions.

Give `LinkWebSocketProtocol` to uvicorn as `ws=`. On the link's path, and there alone, it sends no pings of its own (a
link has heartbeats and a lease), and takes the messages that links are made of, whole and masked and in one frame, past
the general parser, which costs several times what the rest of a heartbeat does. Whatever else arrives is the general
parser's: on a border between two frames, and from then on for as long as the connection lives.
"""

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State
from websockets.speedups import apply_mask

from raymart_core.wire.link import LINK_PATH

_BINARY, _PING, _PONG = 0x82, 0x89, 0x8A
"""First byte of a frame that is whole and of no extension (RFC 6455, section 5.2)."""
_MASKED = 0x80
_CONTROL_BYTES_MAX = 125
_SERVICE_RESTART = 1012
_HEAD_BYTES_MIN, _HEAD_BYTES_MAX = 6, 14
"""A masked frame's header, with the mask."""
_QUEUED_MAX = 16
_SMALL_BYTES = 4_096
"""Reading goes on while fewer than `_QUEUED_MAX` messages, each smaller than this, wait for the link."""


class LinkWebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket of the link's path or of any other; which, is known once it is accepted."""

    _cuts_frames = False
    """Whether frames are taken here; never again once something came that is not taken here."""
    _came_early = False
    _part: bytearray | None = None
    """The beginning of a frame, and how much of it must be here before it is worth looking again."""
    _part_needs = 0

    def start_keepalive(self) -> None:
        """Ping, except on a link."""
        if self.scope["path"] != LINK_PATH:
            super().start_keepalive()
        elif not self._came_early:
            self._cuts_frames = True

    def shutdown(self) -> None:
        """End the connection, because the process ends; one that is closing already is closed now.

        uvicorn's own would raise where the close is not the application's, and the shutdown would stop at this connection.
        """
        if self.handshake_complete and not self.close_sent and self.conn.state is not State.OPEN:
            self.stop_keepalive()
            self.queue.put_nowait({"type": "websocket.disconnect", "code": _SERVICE_RESTART})
            self.transport.close()
            return
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Take whole messages; leave the rest to the general parser."""
        if not self._cuts_frames:
            # What comes between a request and its acceptance is in the general parser, perhaps a part of a frame.
            self._came_early |= self.handshake_initiated
            super().data_received(data)
            return
        part = self._part
        if part is not None:
            part += data
            if len(part) < self._part_needs:
                return
            data, self._part = bytes(part), None
        offset = self._take_frames(data)
        if offset < len(data):
            self._leave(data[offset:])

    def _leave(self, data: bytes) -> None:
        """To the next read, or to the general parser."""
        if self._cuts_frames:
            self._part = bytearray(data)
        else:
            super().data_received(data)

    def _take_frames(self, data: bytes) -> int:
        """Where the first frame begins that was not taken; it is not whole unless `_cuts_frames` is False now."""
        offset, end = 0, len(data)
        while end - offset >= _HEAD_BYTES_MIN:
            first, size = data[offset], data[offset + 1] - _MASKED
            start = offset + _HEAD_BYTES_MIN
            if size > _CONTROL_BYTES_MAX:
                start = offset + (8 if size == 126 else _HEAD_BYTES_MAX)
                # Of a header that is not whole it is too small a number, and there is another look.
                size = int.from_bytes(data[offset + 2 : start - 4])
            is_small = 0 <= size <= _CONTROL_BYTES_MAX
            if not (first == _BINARY and 0 <= size <= self.config.ws_max_size) and not (
                first in (_PING, _PONG) and is_small
            ):
                self._cuts_frames = False
                return offset
            stop = start + size
            if stop > end:
                self._part_needs = stop - offset
                return offset
            self._take(first, apply_mask(data[start:stop], data[start - 4 : start]))
            offset = stop
        self._part_needs = min(_HEAD_BYTES_MAX, end - offset + 1)
        return offset

    def _take(self, first: int, payload: bytes) -> None:
        """One whole frame."""
        if first == _BINARY:
            self._deliver(payload)
        elif first == _PING and self.conn.state is State.OPEN:
            self.transport.write(bytes((_PONG, len(payload))) + payload)

    def _deliver(self, payload: bytes) -> None:
        if self.close_sent:
            return
        event: ASGIReceiveEvent = {"type": "websocket.receive", "bytes": payload}
        self.queue.put_nowait(event)
        # Not to read for each message costs two system calls, and two more to read again.
        if not self.read_paused and (len(payload) > _SMALL_BYTES or self.queue.qsize() >= _QUEUED_MAX):
            self.read_paused = True
            self.transport.pause_reading()
