"""A replica behind a link, as the gateway's `Upstream`: an HTTP request carried in frames."""

from collections.abc import AsyncIterator
from typing import Protocol

from raymart_core.units import Fault
from raymart_core.wire.link import (
    FrameType,
    OpenRequest,
    Reset,
    encode,
    pack_frame,
)
from raymart_marketplace.supply.link.stream import TunnelStream
from raymart_marketplace.supply.upstream import UpstreamBroken

_LEFT = Reset(code="cancelled", message="the marketplace no longer wants this response", fault=Fault.NONE)


class Tunnel(Protocol):
    """What a live link offers to its upstreams."""

    def open_stream(self) -> TunnelStream:
        """A fresh stream. Raises: UpstreamBroken when the link is gone or full."""

    def send_now(self, frame: bytes) -> None:
        """Queue a frame ahead of all data."""

    async def send_data(self, frame: bytes) -> None:
        """Queue a data frame, waiting for room."""

    def close_stream(self, stream: TunnelStream, reset: Reset | None) -> None:
        """Forget `stream`; if it is not over, tell the node by `reset`."""


class LinkResponse:
    """A tunnelled response. Implements `supply.upstream.UpstreamResponse`."""

    __slots__ = ("_stream", "_tunnel", "status")

    def __init__(self, tunnel: Tunnel, stream: TunnelStream, status: int) -> None:
        self.status = status
        """HTTP status of the replica."""
        self._tunnel = tunnel
        self._stream = stream

    @property
    def has_ended(self) -> bool:
        """Whether the whole body is here and was read."""
        return self._stream.over and not self._stream.buffered_bytes

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises: UpstreamBroken when the link or the replica breaks before its end."""
        return self._stream

    async def aclose(self) -> None:
        """Reset the stream unless it is over; the node then closes its connection to the replica."""
        self._tunnel.close_stream(self._stream, _LEFT)


class LinkUpstream:
    """One replica of a node, through the node's link. Implements `supply.upstream.Upstream`."""

    __slots__ = ("_replica_id", "_tunnel")

    def __init__(self, tunnel: Tunnel, replica_id: str) -> None:
        self._tunnel = tunnel
        self._replica_id = replica_id

    async def post(self, path: str, body: bytes, *, request_id: str, deadline_ms: int) -> LinkResponse:
        """Send `body` and return once the response's head is here.

        A head that comes before the whole body was sent means that the replica does not want the rest. When the
        caller gives up waiting, the stream is reset. Raises: UpstreamBroken.
        """
        stream = self._tunnel.open_stream()
        try:
            request = OpenRequest(
                replica_id=self._replica_id,
                method="POST",
                path=path,
                request_id=request_id,
                deadline_ms=deadline_ms,
            )
            self._tunnel.send_now(pack_frame(FrameType.OPEN, stream.id, encode(request)))
            await self._send_body(stream, body)
            head = await stream.wait_for_head()
        except BaseException:
            # A cancelled wait (the caller's deadline) included: the replica must not work for nobody.
            self._tunnel.close_stream(stream, _LEFT)
            raise
        return LinkResponse(self._tunnel, stream, head.status)

    async def _send_body(self, stream: TunnelStream, body: bytes) -> None:
        sent = 0
        while sent < len(body):
            size = stream.send_window.take(len(body) - sent)
            if size:
                await self._tunnel.send_data(pack_frame(FrameType.DATA, stream.id, body[sent : sent + size]))
                sent += size
            elif stream.head is None and not stream.over:
                await stream.wait()
            else:
                return
        await self._tunnel.send_data(pack_frame(FrameType.END, stream.id))


def broken_link(reason: str) -> UpstreamBroken:
    """The failure of every stream of a link that is gone: neither end is to blame."""
    return UpstreamBroken(reason, fault=Fault.NETWORK)
