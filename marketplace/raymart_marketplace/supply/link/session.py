"""One live link after its handshake: reader, writer and watchdog, and the streams that it carries."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog

from raymart_core.units import Fault
from raymart_core.wire.link import Control, FrameType, GoAway, Refuse, Reset
from raymart_marketplace.supply.link.limits import LinkLimits, TokenBucket
from raymart_marketplace.supply.link.outbox import Outbox
from raymart_marketplace.supply.link.socket import (
    CLOSE_REFUSED,
    CLOSE_SILENT,
    CLOSE_SUPERSEDED,
    LinkClosed,
    LinkEnded,
    LinkSocket,
    protocol_error,
    read_control,
)
from raymart_marketplace.supply.link.stream import StreamAbuse, TunnelStream, reset_frame
from raymart_marketplace.supply.link.upstream import LinkUpstream, broken_link
from raymart_marketplace.supply.upstream import Upstream, UpstreamBroken

log = structlog.get_logger()

_FAREWELL_TIMEOUT_S = 2.0
# A member of an enumeration costs a look-up each time, and these are compared for each frame.
_CONTROL, _DATA, _WINDOW = FrameType.CONTROL, FrameType.DATA, FrameType.WINDOW


class Duty(Protocol):
    """What a link is for: a node's replicas, or a pool's placements."""

    def take(self, message: Control) -> None:
        """A control message arrived; must not wait. Raises: LinkEnded for one that has no place here."""

    async def run(self) -> None:
        """The duty's own work, such as the database's; cancelled when the link ends. Raises: LinkEnded."""

    def look(self) -> None:
        """Somebody changed the node or its provider; look at once what that means for the link."""

    def lost(self) -> None:
        """The link is gone; called at once, before any stream fails."""


class CarriedStream(Protocol):
    """A request on a link, as the link sees it: `TunnelStream`, or what passes frames on to another process."""

    id: int

    @property
    def over(self) -> bool:
        """Whether nothing more can arrive."""

    def feed_data(self, payload: bytes) -> None:
        """Take a piece of the response's body, which counts as waiting until it is released. Raises: StreamAbuse."""

    def feed(self, kind: FrameType, payload: bytes) -> None:
        """Take any other frame from the node. Raises: StreamAbuse."""

    def fail(self, failure: UpstreamBroken) -> None:
        """End it with `failure`, unless it is over."""

    def discard(self) -> None:
        """Drop what was buffered."""


StreamT = TypeVar("StreamT", bound=CarriedStream)


class LinkSession:
    """A proven peer on one WebSocket. `run` lives as long as the link does."""

    def __init__(
        self, socket: LinkSocket, *, name: str, lease_s: float, limits: LinkLimits, bundles: bool = False
    ) -> None:
        """`bundles` says whether the peer takes several frames in one message."""
        self.name = name
        self.outbox = Outbox(socket, bundles=bundles)
        self._socket = socket
        self._lease_s = lease_s
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._control_bucket = TokenBucket(limits.control_per_s)
        self._stray_bucket = TokenBucket(limits.strays_per_s)
        self._streams: dict[int, CarriedStream] = {}
        self._last_stream_id = 0
        self._buffered_bytes = 0
        self._stop: asyncio.Future[LinkEnded] = self._loop.create_future()
        self._lost = False

    # What the rest of the marketplace does with a live link.

    @property
    def streams_open(self) -> int:
        """Requests that are under way on this link."""
        return len(self._streams)

    def upstream(self, replica_id: str) -> Upstream:
        """The way to one replica of this node."""
        return LinkUpstream(self, replica_id)

    def end(self, ending: LinkEnded) -> None:
        """Close the link from this side, telling the peer why."""
        if not self._stop.done():
            self._stop.set_result(ending)

    def supersede(self) -> None:
        """End this link because the same node has proven itself on a newer one."""
        self.end(
            LinkEnded(
                "superseded",
                "another agent proved the same node key; run only one agent per state directory",
                close_code=CLOSE_SUPERSEDED,
                retry=False,
            )
        )

    async def run(self, duty: Duty) -> None:
        """Serve the link until it ends, then break what it carried. Returns in every case but a bug."""
        ending: LinkEnded | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(duty))
                tasks.create_task(self.outbox.run())
                tasks.create_task(self._watch())
                tasks.create_task(duty.run())
        except* LinkClosed:
            pass
        except* LinkEnded as endings:
            ending = _first_ending(endings)
        finally:
            self._lose(duty, "the link ended")
        if ending is not None:
            log.warning("link.ended", node=self.name, reason=ending.reason, message=ending.message)
            await self._say_farewell(ending)

    # Implements upstream.Tunnel.

    def open_stream(self) -> TunnelStream:
        """A fresh stream. Raises: UpstreamBroken when the link is gone (network) or full (platform)."""
        stream_id = self._next_stream_id()
        stream = TunnelStream(stream_id, send_frame=self.outbox.frame, release=self.release)
        self._streams[stream_id] = stream
        return stream

    def carry(self, make: Callable[[int], StreamT]) -> StreamT:
        """What `make` makes of a fresh stream's id, as a stream of this link. Raises: UpstreamBroken, as `open_stream` does."""
        stream_id = self._next_stream_id()
        stream = make(stream_id)
        self._streams[stream_id] = stream
        return stream

    def release(self, byte_count: int) -> None:
        """So much DATA waits no longer."""
        self._buffered_bytes -= byte_count

    def send_now(self, frame: bytes) -> None:
        """Queue a frame ahead of all data."""
        self.outbox.frame(frame)

    async def send_data(self, frame: bytes) -> None:
        """Queue a data frame, waiting for room."""
        await self.outbox.data(frame)

    def close_stream(self, stream: CarriedStream, reset: Reset | None) -> None:
        """Forget `stream`; if it is not over, tell the node by `reset`. Safe to call twice."""
        if self._streams.pop(stream.id, None) is not None and reset is not None and not stream.over:
            self.outbox.frame(reset_frame(stream.id, reset))
        stream.fail(broken_link("the response was closed"))
        stream.discard()

    # The link's own tasks.

    async def _read(self, duty: Duty) -> None:
        try:
            while True:
                frames = await self._socket.read()
                self._heard_at = self._loop.time()
                for kind, stream_id, payload in frames:
                    if kind is _CONTROL:
                        self._take_control(duty, stream_id, payload)
                    else:
                        self._take_frame(kind, stream_id, payload)
        except LinkClosed:
            # Here and not only in `run`: streams must fail in the same loop turn in which the socket did.
            self._lose(duty, f"the link of {self.name} broke")
            raise

    async def _watch(self) -> None:
        """End the link when the node is silent or stops reading, or when `end` is called."""
        while True:
            silent_s = self._loop.time() - self._heard_at
            if silent_s >= self._lease_s:
                raise LinkEnded(
                    "silent",
                    f"nothing was heard for {silent_s:.1f} s; the lease is {self._lease_s} s",
                    close_code=CLOSE_SILENT,
                )
            if self.outbox.overflowed or self.outbox.stalled_s > self._limits.step_timeout_s:
                raise LinkEnded("limit", "the node stopped reading from its link", close_code=CLOSE_REFUSED)
            done, _ = await asyncio.wait([self._stop], timeout=max(0.01, self._lease_s - silent_s))
            if done:
                raise self._stop.result()

    def _take_control(self, duty: Duty, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise protocol_error(f"a control message on stream {stream_id}; they go on stream 0")
        if not self._control_bucket.take():
            raise LinkEnded(
                "limit",
                f"more than {self._limits.control_per_s:g} control messages a second; send them less often",
                close_code=CLOSE_REFUSED,
            )
        duty.take(read_control(payload))

    def _take_frame(self, kind: FrameType, stream_id: int, payload: bytes) -> None:
        stream = self._streams.get(stream_id)
        # Frames for a stream that was reset here may be in flight still; more than that is abuse.
        if (stream is None or kind is _WINDOW) and not self._stray_bucket.take():
            raise LinkEnded(
                "limit",
                f"more than {self._limits.strays_per_s:g} frames a second that carry nothing",
                close_code=CLOSE_REFUSED,
            )
        if stream is None:
            return
        try:
            if kind is _DATA:
                stream.feed_data(payload)
                self._charge(len(payload))
                return
            stream.feed(kind, payload)
        except StreamAbuse as abuse:
            log.warning("stream.abused", node=self.name, stream=stream_id, reason=abuse.reset.message)
            self.outbox.frame(reset_frame(stream_id, abuse.reset))
            stream.fail(UpstreamBroken(abuse.reset.message, fault=abuse.reset.fault))
        if stream.over:
            self._streams.pop(stream_id, None)

    def _charge(self, byte_count: int) -> None:
        self._buffered_bytes += byte_count
        if self._buffered_bytes > self._limits.buffered_bytes_max:
            raise StreamAbuse(
                Reset(
                    code="limit",
                    message=f"{self._limits.buffered_bytes_max} bytes of this link wait for slow consumers",
                    fault=Fault.PLATFORM,
                )
            )

    def _next_stream_id(self) -> int:
        """Raises: UpstreamBroken."""
        if self._lost or self._stop.done():
            raise broken_link(f"the link of {self.name} is gone")
        if len(self._streams) >= self._limits.streams_max:
            raise UpstreamBroken(
                f"{self._limits.streams_max} streams are open on the link of {self.name}",
                fault=Fault.PLATFORM,
            )
        # Ids are never reused while a link lives, short of 2**32 requests.
        self._last_stream_id = self._last_stream_id % 0xFFFF_FFFF + 1
        return self._last_stream_id

    def _lose(self, duty: Duty, reason: str) -> None:
        if self._lost:
            return
        self._lost = True
        duty.lost()
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.fail(broken_link(reason))

    async def _say_farewell(self, ending: LinkEnded) -> None:
        """The last message and the close frame. The writer is cancelled by now, so this is the only one."""
        message: Control = Refuse(reason=ending.reason, message=ending.message, retry=ending.retry)
        if ending.close_code == CLOSE_SUPERSEDED:
            message = GoAway(drain_s=0.0, reason=ending.reason)
        try:
            async with asyncio.timeout(_FAREWELL_TIMEOUT_S):
                await self._socket.write_control(message)
                await self._socket.close(ending.close_code, ending.reason)
        except (LinkClosed, TimeoutError):
            log.info("link.farewell_unheard", node=self.name)


def _first_ending(group: BaseExceptionGroup[LinkEnded]) -> LinkEnded:
    first = group.exceptions[0]
    return _first_ending(first) if isinstance(first, BaseExceptionGroup) else first
