"""A node's link as a sibling of the process that has it sees it: requests go there first."""

from typing import Protocol
from uuid import UUID

from raymart_core.wire.link import Reset
from raymart_marketplace.supply.link.stream import TunnelStream
from raymart_marketplace.supply.link.upstream import LinkUpstream
from raymart_marketplace.supply.upstream import Upstream


class Holder(Protocol):
    """The connection to the process that has the link."""

    def open_stream(self, node_id: UUID) -> TunnelStream:
        """A fresh stream to the node. Raises: UpstreamBroken when the process is gone."""

    def send(self, frame: bytes) -> None:
        """Write a frame."""

    def close_stream(self, stream: TunnelStream, reset: Reset | None) -> None:
        """Forget `stream`; if it is not over, tell the node by `reset`."""


class FarLink:
    """Implements `supply.directory.LiveLink`, and `supply.link.upstream.Tunnel` for its upstreams."""

    __slots__ = ("_holder", "_node_id")

    def __init__(self, holder: Holder, node_id: UUID) -> None:
        self._holder = holder
        self._node_id = node_id

    def upstream(self, replica_id: str) -> Upstream:
        """The way to one replica."""
        return LinkUpstream(self, replica_id)

    def open_stream(self) -> TunnelStream:
        """A fresh stream. Raises: UpstreamBroken when the process that has the link is gone."""
        return self._holder.open_stream(self._node_id)

    def send_now(self, frame: bytes) -> None:
        """Write a frame."""
        self._holder.send(frame)

    async def send_data(self, frame: bytes) -> None:
        """Write a data frame. The stream's window bounds what may wait on the way."""
        self._holder.send(frame)

    def close_stream(self, stream: TunnelStream, reset: Reset | None) -> None:
        """Forget `stream`; if it is not over, tell the node by `reset`."""
        self._holder.close_stream(stream, reset)
