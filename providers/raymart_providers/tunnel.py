"""The node's end of the tunnel: each stream that the marketplace opens becomes an HTTP request to a local replica.

Everything here happens in the callbacks of the event loop, without a task per stream: a chunk from a replica goes
straight into the link's outbox. Back-pressure is by `pause_reading` on the replica's connection.
"""

from collections.abc import Callable

import structlog

from raymart_core.wire.link import (
    STREAMS_MAX,
    FrameType,
    OpenRequest,
    Reset,
    decode_open,
    decode_reset,
    encode,
    pack_credit,
    pack_frame,
    unpack_credit,
)
from raymart_core.wire.replica import HEALTH_PATH, STATS_PATH
from raymart_providers.link.outbox import Outbox
from raymart_providers.replica_call import CallRefused, ReplicaCall, provider_reset
from raymart_providers.replicas import LocalReplica, ReplicaBook

log = structlog.get_logger()


class Tunnel:
    """The streams of one live link. `on_idle` is called whenever the last one ends."""

    def __init__(self, book: ReplicaBook, outbox: Outbox, *, on_idle: Callable[[], None]) -> None:
        self._book = book
        self._outbox = outbox
        self._on_idle = on_idle
        self._streams: dict[int, _Stream] = {}
        self._draining = False

    @property
    def running(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def drain(self) -> None:
        """Refuse new streams from now on."""
        self._draining = True

    def take(self, kind: FrameType, stream_id: int, payload: bytes) -> None:
        """One frame from the marketplace. What it gets wrong costs it the stream, not the link."""
        stream = self._streams.get(stream_id)
        if kind is FrameType.OPEN:
            self._open(stream_id, payload)
        elif stream is not None:
            # A frame for a stream that has ended here may have been in flight; it is let go.
            try:
                stream.take(kind, payload)
            except CallRefused as refused:
                self._refuse(stream_id, refused.reset)
                stream.close()

    def lost(self) -> None:
        """The link is gone: close every connection to a replica, so that the engines stop."""
        for stream in tuple(self._streams.values()):
            stream.close()

    def _open(self, stream_id: int, payload: bytes) -> None:
        try:
            request = decode_open(payload)
            replica = self._admit(stream_id, request)
        except (ValueError, RecursionError) as error:
            self._refuse(stream_id, provider_reset("protocol", f"an OPEN that cannot be read: {error}"))
        except CallRefused as refused:
            self._refuse(stream_id, refused.reset)
            if (running := self._streams.get(stream_id)) is not None:
                # The RESET just sent ends the stream of that id, so its call must not go on for nobody.
                running.close()
        else:
            self._streams[stream_id] = _Stream(stream_id, request, replica, self._outbox, self._ended)

    def _admit(self, stream_id: int, request: OpenRequest) -> LocalReplica:
        """The replica for `request`. Raises: CallRefused."""
        if stream_id == 0 or stream_id in self._streams:
            raise CallRefused(provider_reset("protocol", f"stream {stream_id} is open already"))
        if self._draining:
            raise CallRefused(provider_reset("draining", "this node is stopping"))
        if len(self._streams) >= STREAMS_MAX:
            raise CallRefused(provider_reset("limit", f"{STREAMS_MAX} streams are open on this link"))
        if not _is_served(request.method, request.path):
            raise CallRefused(
                provider_reset("protocol", f"{request.method[:16]} {request.path[:64]} is not tunnelled")
            )
        replica = self._book.find(request.replica_id)
        if replica is None:
            raise CallRefused(provider_reset("no_replica", f"no replica {request.replica_id[:64]!r} is here"))
        return replica

    def _ended(self, stream_id: int) -> None:
        del self._streams[stream_id]
        if not self._streams:
            self._on_idle()

    def _refuse(self, stream_id: int, reset: Reset) -> None:
        log.info("stream.refused", stream=stream_id, code=reset.code, reason=reset.message)
        self._outbox.frame(pack_frame(FrameType.RESET, stream_id, encode(reset)))


class _Stream:
    """Joins one stream's frames with one call to a replica."""

    __slots__ = ("_call", "_closed", "_data_header", "_on_end", "_outbox", "_replica", "id")

    def __init__(
        self,
        stream_id: int,
        request: OpenRequest,
        replica: LocalReplica,
        outbox: Outbox,
        on_end: Callable[[int], None],
    ) -> None:
        self.id = stream_id
        self._data_header = pack_frame(FrameType.DATA, stream_id)
        self._outbox = outbox
        self._replica = replica
        self._on_end = on_end
        self._closed = False
        replica.running += 1
        self._call = ReplicaCall(request, replica, self)

    def take(self, kind: FrameType, payload: bytes) -> None:
        """One frame of this stream. Raises: CallRefused."""
        if kind is FrameType.DATA:
            self._call.add_body(payload)
        elif kind is FrameType.END:
            self._call.end_body()
        elif kind is FrameType.WINDOW:
            try:
                self._call.grant(unpack_credit(payload))
            except ValueError as error:
                raise CallRefused(provider_reset("protocol", str(error))) from None
        elif kind is FrameType.RESET:
            _log_reset(self.id, payload)
            self.close()
        else:
            raise CallRefused(provider_reset("protocol", f"{kind.name} from the marketplace"))

    def close(self) -> None:
        """End the stream here: the connection to the replica is closed at once. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._call.abort()
            self._replica.running -= 1
            self._on_end(self.id)

    # What the call tells. Implements replica_call.Caller.

    @property
    def has_room(self) -> bool:
        """Whether the link takes more data now."""
        return self._outbox.has_room

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the link takes more data."""
        self._outbox.when_room(callback)

    def send_data(self, payload: bytes) -> None:
        """Queue a piece of the response's body, of at most `FRAME_BYTES_MAX`."""
        self._outbox.data(self._data_header + payload)

    def send(self, kind: FrameType, payload: bytes) -> None:
        """Queue a frame of the response, in order."""
        self._outbox.data(pack_frame(kind, self.id, payload))

    def credit(self, byte_count: int) -> None:
        """Let the marketplace send more of the request's body."""
        self._outbox.frame(pack_frame(FrameType.WINDOW, self.id, pack_credit(byte_count)))

    def finished(self) -> None:
        """The whole response has been sent."""
        self.send(FrameType.END, b"")
        self.close()

    def failed(self, reset: Reset) -> None:
        """The call is over without a whole response; what had arrived of it goes first."""
        log.warning("stream.failed", stream=self.id, code=reset.code, reason=reset.message)
        self.send(FrameType.RESET, encode(reset))
        self.close()


def _is_served(method: str, path: str) -> bool:
    """Whether the marketplace may ask this of a replica: its work, health and load, not its life."""
    if method == "POST":
        return path.startswith("/v1/") and path.isascii() and path.isprintable() and " " not in path
    return method == "GET" and path in {HEALTH_PATH, STATS_PATH}


def _log_reset(stream_id: int, payload: bytes) -> None:
    try:
        reset = decode_reset(payload)
    except (ValueError, RecursionError):
        log.warning("stream.reset", stream=stream_id, code="unreadable")
    else:
        log.info("stream.reset", stream=stream_id, code=reset.code)
