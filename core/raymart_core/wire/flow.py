"""Flow control and ordering of a link's frames, as plain data structures that both ends of the link share.

Nothing here waits or does I/O: the ends wrap these in their own tasks. A stream's sender owns a `SendWindow`, its
receiver a `ReceiveWindow`; a link owns one `FrameQueue`. Source: the credit scheme of RFC 9113 section 5.2, per stream
only (a window for the whole connection would let one slow stream hold the others).
"""

from collections import deque

from raymart_core.wire.bundle import ENTRY_OVERHEAD_BYTES, pack_bundle
from raymart_core.wire.link import FRAME_BYTES_MAX, WINDOW_BYTES


class SendWindow:
    """DATA bytes a sender may still send on one stream."""

    __slots__ = ("available",)

    def __init__(self) -> None:
        self.available = WINDOW_BYTES
        """Bytes of credit, 0 to `WINDOW_BYTES`."""

    def take(self, wanted: int) -> int:
        """Spend credit for the next DATA frame: at most `wanted`, the credit and a frame's size; 0 means wait."""
        granted = min(wanted, self.available, FRAME_BYTES_MAX)
        self.available -= granted
        return granted

    def grant(self, byte_count: int) -> None:
        """Add the credit of a WINDOW frame.

        Raises: ValueError when it is not positive or gives back more than was spent.
        """
        if not 0 < byte_count <= WINDOW_BYTES - self.available:
            raise ValueError(
                f"credit of {byte_count} bytes, but {WINDOW_BYTES - self.available} are unacknowledged on this stream"
            )
        self.available += byte_count


class ReceiveWindow:
    """DATA bytes a receiver has been sent on one stream and has not yet given credit for."""

    __slots__ = ("consumed_bytes", "outstanding_bytes")

    def __init__(self) -> None:
        self.outstanding_bytes = 0
        """Arrived and not yet credited, 0 to `WINDOW_BYTES`."""
        self.consumed_bytes = 0
        """Part of `outstanding_bytes` that the consumer has taken."""

    def arrived(self, byte_count: int) -> None:
        """Count a DATA frame. Raises: ValueError when it is empty or overruns the window."""
        if not 0 < byte_count <= WINDOW_BYTES - self.outstanding_bytes:
            raise ValueError(
                f"DATA of {byte_count} bytes with {self.outstanding_bytes} of {WINDOW_BYTES} unacknowledged"
            )
        self.outstanding_bytes += byte_count

    def consumed(self, byte_count: int) -> int:
        """Count what the consumer took; the credit to send back now, 0 while it is less than half a window.

        Half a window at a time: a token stream of a few hundred chunks then costs no WINDOW frame at all.
        """
        self.consumed_bytes += byte_count
        assert self.consumed_bytes <= self.outstanding_bytes
        if self.consumed_bytes < WINDOW_BYTES // 2:
            return 0
        credit = self.consumed_bytes
        self.outstanding_bytes -= credit
        self.consumed_bytes = 0
        return credit


class FrameQueue:
    """Frames that wait for a link's writer: control before data, both bounded, each in the order given.

    A stream's OPEN goes with the control frames, so that a RESET can never overtake it; its HEAD, DATA and END go
    with the data frames. A RESET that must not cut delivered bytes short goes with the data frames too.
    """

    __slots__ = ("_control", "_control_max", "_data", "_data_bytes", "_data_bytes_max")

    def __init__(self, *, control_max: int = 4096, data_bytes_max: int = WINDOW_BYTES) -> None:
        self._control: deque[bytes] = deque()
        self._data: deque[bytes] = deque()
        self._data_bytes = 0
        self._control_max = control_max
        self._data_bytes_max = data_bytes_max

    @property
    def has_room(self) -> bool:
        """Whether a producer of data may add a frame now."""
        return self._data_bytes < self._data_bytes_max

    def push_control(self, frame: bytes) -> bool:
        """Add a control frame; False when the peer has stopped reading and the queue is full."""
        if len(self._control) >= self._control_max:
            return False
        self._control.append(frame)
        return True

    def push_data(self, frame: bytes) -> None:
        """Add a data frame. Whoever has more to send asks `has_room` first; an end of stream may go over."""
        self._data.append(frame)
        self._data_bytes += len(frame)

    def pop(self) -> bytes | None:
        """The next frame to write, None when there is none."""
        if self._control:
            return self._control.popleft()
        if not self._data:
            return None
        frame = self._data.popleft()
        self._data_bytes -= len(frame)
        return frame

    def pop_message(self) -> bytes | None:
        """The next WebSocket message for a peer that takes bundles: as many frames as fit into one, in order."""
        first = self.pop()
        if first is None or not (self._control or self._data):
            return first
        frames = [first]
        room = FRAME_BYTES_MAX - len(first) - 2 * ENTRY_OVERHEAD_BYTES
        while (queue := self._control or self._data) and len(queue[0]) <= room:
            frame = queue.popleft()
            if queue is self._data:
                self._data_bytes -= len(frame)
            frames.append(frame)
            room -= len(frame) + ENTRY_OVERHEAD_BYTES
        return pack_bundle(frames) if len(frames) > 1 else first

    def __len__(self) -> int:
        """Frames waiting."""
        return len(self._control) + len(self._data)
