"""The connection to one sibling: what it says of its nodes, our requests on those, and its requests on ours."""

import asyncio
from typing import Protocol, cast
from uuid import UUID

import msgspec
import structlog

from raymart_core.units import Fault
from raymart_core.wire.link import FrameType, Reset
from raymart_marketplace.supply.link.session import LinkSession
from raymart_marketplace.supply.link.stream import StreamAbuse, TunnelStream, reset_frame
from raymart_marketplace.supply.link.upstream import broken_link
from raymart_marketplace.supply.siblings import wire
from raymart_marketplace.supply.siblings.relay import Relay
from raymart_marketplace.supply.upstream import UpstreamBroken

log = structlog.get_logger()

STUFFED_BYTES = 64 * 1024 * 1024
"""More than this is not kept for a process that does not read."""
BUFFERED_BYTES_MAX = 64 * 1024 * 1024
"""DATA that waits for slow customers of this process, over all streams; the stream that goes over it is reset."""
_CONTROL, _DATA = FrameType.CONTROL, FrameType.DATA


class Family(Protocol):
    """Who hears what siblings say."""

    def met(self, sibling: "Sibling") -> None:
        """The connection is there."""

    def heard(self, sibling: "Sibling", message: wire.Message) -> None:
        """A message came. Raises: ValueError for one that has no place here."""

    def lost(self, sibling: "Sibling") -> None:
        """The connection is gone; called before any stream fails."""

    def own_link(self, node_id: UUID) -> LinkSession | None:
        """This process's link of the node."""


class Sibling(asyncio.Protocol):
    """Implements `far_link.Holder` for requests of this process, and `relay.Asker` for the sibling's."""

    def __init__(self, family: Family, *, is_elder: bool) -> None:
        """`is_elder` says whether this end's streams are the odd ones."""
        self._family = family
        self._parity = 1 if is_elder else 0
        self._last_stream_id = self._parity
        self._unpacker = wire.Unpacker()
        self._streams: dict[int, TunnelStream] = {}
        """Requests of this process, on nodes of the sibling's."""
        self._relays: dict[int, Relay] = {}
        """The sibling's requests on nodes of this process."""
        self._buffered_bytes = 0
        self._transport: asyncio.Transport | None = None

    def say(self, message: wire.Message) -> None:
        """Write a message."""
        if self._transport is not None:
            self._transport.write(wire.pack_message(message))

    def close(self) -> None:
        """End the connection, at once."""
        if self._transport is not None:
            self._transport.abort()

    # Requests of this process: implements far_link.Holder.

    def open_stream(self, node_id: UUID) -> TunnelStream:
        """A fresh stream to a node of the sibling's. Raises: UpstreamBroken when it is gone."""
        if self._transport is None:
            raise broken_link("the process that has the node's link is gone")
        # Ids are never reused while the two live, short of 2**31 requests.
        self._last_stream_id = stream_id = (self._last_stream_id + 2) % 2**32 or 2
        stream = TunnelStream(stream_id, send_frame=self.send, release=self._release)
        self._streams[stream_id] = stream
        self._transport.write(wire.pack_open(stream_id, node_id))
        return stream

    def send(self, frame: bytes) -> None:
        """Write a frame."""
        if self._transport is not None:
            self._transport.write(wire.pack(frame))

    def close_stream(self, stream: TunnelStream, reset: Reset | None) -> None:
        """Forget `stream`; if it is not over, tell the node by `reset`. Safe to call twice."""
        if self._streams.pop(stream.id, None) is not None and reset is not None and not stream.over:
            self.send(reset_frame(stream.id, reset))
        stream.fail(broken_link("the response was closed"))
        stream.discard()

    # The sibling's requests: implements relay.Asker.

    @property
    def is_stuffed(self) -> bool:
        """Whether the sibling has stopped reading."""
        return self._transport is not None and self._transport.get_write_buffer_size() > STUFFED_BYTES

    def fail(self, stream_id: int, failure: UpstreamBroken) -> None:
        """Tell the sibling that its stream ended in between."""
        if self._transport is not None:
            said = wire.Failure(reason=failure.reason, fault=failure.fault)
            self._transport.write(wire.pack_failure(stream_id, said))

    def forget(self, stream_id: int) -> None:
        """The sibling's stream is over here."""
        self._relays.pop(stream_id, None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._family.met(self)

    def data_received(self, data: bytes) -> None:
        """Take frames; end the connection over what is none."""
        try:
            for kind, stream_id, payload in self._unpacker.feed(data):
                if stream_id == 0:
                    self._family.heard(self, wire.decode_message(payload))
                elif stream_id & 1 == self._parity:
                    self._take_answer(kind, stream_id, payload)
                else:
                    self._take_request(kind, stream_id, payload)
        except (ValueError, msgspec.MsgspecError) as error:
            # Only another version of this program says what cannot be read; each serves by itself then.
            log.warning("sibling.not_understood", reason=str(error)[:200])
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Break what both had under way."""
        self._transport = None
        self._family.lost(self)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.fail(broken_link("the process that has the node's link is gone"))
        for relay in tuple(self._relays.values()):
            relay.cancel()

    def _take_answer(self, kind: FrameType, stream_id: int, payload: bytes) -> None:
        """From a node, by the sibling. As `LinkSession` does, but for what ends a node's link."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        try:
            if kind is _DATA:
                stream.feed_data(payload)
                self._charge(len(payload))
                return
            if kind is _CONTROL:
                failure = wire.decode_failure(payload)
                stream.fail(UpstreamBroken(failure.reason, fault=failure.fault))
            else:
                stream.feed(kind, payload)
        except StreamAbuse as abuse:
            self.send(reset_frame(stream_id, abuse.reset))
            stream.fail(UpstreamBroken(abuse.reset.message, fault=abuse.reset.fault))
        if stream.over:
            self._streams.pop(stream_id, None)

    def _take_request(self, kind: FrameType, stream_id: int, payload: bytes) -> None:
        if kind is _CONTROL:
            self._open_relay(stream_id, UUID(bytes=payload))
        elif (relay := self._relays.get(stream_id)) is not None:
            relay.forward(kind, payload)

    def _open_relay(self, stream_id: int, node_id: UUID) -> None:
        link = self._family.own_link(node_id)
        try:
            if link is None:
                raise broken_link("the node's link is gone")
            self._relays[stream_id] = link.carry(
                lambda link_stream_id: Relay(link_stream_id, link=link, asker=self, asker_id=stream_id)
            )
        except UpstreamBroken as failure:
            self.fail(stream_id, failure)

    def _charge(self, byte_count: int) -> None:
        self._buffered_bytes += byte_count
        if self._buffered_bytes > BUFFERED_BYTES_MAX:
            message = f"{BUFFERED_BYTES_MAX} bytes of one process's nodes wait for slow consumers"
            raise StreamAbuse(Reset(code="limit", message=message, fault=Fault.PLATFORM))

    def _release(self, byte_count: int) -> None:
        self._buffered_bytes -= byte_count
