"""One request of a sibling on a link of this process: frames pass through, under another stream id and otherwise as they are."""

import asyncio
from collections import deque
from typing import Protocol

from raymart_core.units import Fault
from raymart_core.wire.link import WINDOW_BYTES, FrameType, Reset, pack_frame, unpack_credit
from raymart_marketplace.supply.link.session import LinkSession
from raymart_marketplace.supply.link.stream import StreamAbuse, protocol_abuse
from raymart_marketplace.supply.upstream import UpstreamBroken

_LEFT = Reset(code="cancelled", message="the marketplace no longer wants this response", fault=Fault.NONE)


class Asker(Protocol):
    """The connection to the sibling whose request it is."""

    @property
    def is_stuffed(self) -> bool:
        """Whether it has stopped reading, and more would only be kept here."""

    def send(self, frame: bytes) -> None:
        """Write a frame."""

    def fail(self, stream_id: int, failure: UpstreamBroken) -> None:
        """Tell it that its stream ended in between."""

    def forget(self, stream_id: int) -> None:
        """Its stream is over here."""


class Relay:
    """Stands in the place of a `TunnelStream` on the link. Implements `supply.link.session.CarriedStream`.

    Credit is given by the sibling, whose customer takes the bytes, so what waits anywhere in between is at most a window.
    """

    __slots__ = ("_asker", "_asker_id", "_link", "_pushing", "_unacknowledged", "_waiting", "id", "over")

    def __init__(self, stream_id: int, *, link: LinkSession, asker: Asker, asker_id: int) -> None:
        """`stream_id` is the link's, `asker_id` the sibling's."""
        self.id = stream_id
        self.over = False
        """Whether nothing more can come from the node."""
        self._link = link
        self._asker = asker
        self._asker_id = asker_id
        self._unacknowledged = 0
        """DATA bytes from the node that the sibling has given no credit for."""
        self._waiting: deque[bytes] = deque()
        """Of the request's body, while the link has no room for it."""
        self._pushing: asyncio.Task[None] | None = None

    # From the node.

    def feed_data(self, payload: bytes) -> None:
        """Pass a piece of the answer on. Raises: StreamAbuse."""
        size = len(payload)
        self._unacknowledged += size
        # A node may not fill this process's memory; the sibling checks the rest.
        if self._unacknowledged > WINDOW_BYTES:
            message = f"{self._unacknowledged} bytes without credit; {WINDOW_BYTES} is the most"
            raise StreamAbuse(Reset(code="limit", message=message, fault=Fault.PROVIDER))
        if self._asker.is_stuffed:
            message = "the process that serves the customer has stopped reading"
            raise StreamAbuse(Reset(code="limit", message=message, fault=Fault.PLATFORM))
        self._asker.send(pack_frame(FrameType.DATA, self._asker_id, payload))
        self._link.release(size)

    def feed(self, kind: FrameType, payload: bytes) -> None:
        """Pass any other frame on. Raises: StreamAbuse for one that a node may not send."""
        if kind is FrameType.END or kind is FrameType.RESET:
            self.over = True
            self._asker.forget(self._asker_id)
        elif kind is not FrameType.HEAD and kind is not FrameType.WINDOW:
            raise protocol_abuse(f"{kind.name} from a node")
        self._asker.send(pack_frame(kind, self._asker_id, payload))

    def fail(self, failure: UpstreamBroken) -> None:
        """The link is gone, or the node broke the stream's rules."""
        if not self.over:
            self.over = True
            self._asker.forget(self._asker_id)
            self._asker.fail(self._asker_id, failure)
        self.discard()

    def discard(self) -> None:
        """Drop what of the request's body was not sent."""
        self._waiting.clear()
        if self._pushing is not None:
            self._pushing.cancel()

    # From the sibling.

    def forward(self, kind: FrameType, payload: bytes) -> None:
        """Pass a frame on to the node. Raises: ValueError for credit that is none."""
        if kind is FrameType.RESET:
            self.cancel()
            return
        frame = pack_frame(kind, self.id, payload)
        if kind is FrameType.DATA or kind is FrameType.END:
            self._push(frame)
            return
        if kind is FrameType.WINDOW:
            self._unacknowledged -= unpack_credit(payload)
        self._link.send_now(frame)

    def cancel(self) -> None:
        """Nobody wants the answer any more: the node is told to stop."""
        self._asker.forget(self._asker_id)
        self._link.close_stream(self, _LEFT)

    def _push(self, frame: bytes) -> None:
        """To the link's queue, in order, and without waiting where that has room."""
        if self._pushing is None and self._link.outbox.push(frame):
            return
        self._waiting.append(frame)
        if self._pushing is None:
            self._pushing = asyncio.create_task(self._push_all(), name="sibling.push")

    async def _push_all(self) -> None:
        while self._waiting:
            await self._link.send_data(self._waiting[0])
            self._waiting.popleft()
        self._pushing = None
