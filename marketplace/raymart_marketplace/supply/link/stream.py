"""One tunnelled request as the marketplace sees it: what the node has answered so far, and how much may be sent."""

import asyncio
from collections.abc import Callable
from typing import Self

from raymart_core.units import Fault
from raymart_core.wire.flow import ReceiveWindow, SendWindow
from raymart_core.wire.link import (
    FrameType,
    Reset,
    ResponseHead,
    decode_head,
    decode_reset,
    encode,
    pack_credit,
    pack_frame,
    unpack_credit,
)
from raymart_marketplace.supply.link.socket import UNREADABLE
from raymart_marketplace.supply.upstream import UpstreamBroken


class StreamAbuse(Exception):
    """The node broke the rules of one stream; the stream is reset, the link goes on."""

    def __init__(self, reset: Reset) -> None:
        super().__init__(reset.message)
        self.reset = reset


def protocol_abuse(message: str) -> StreamAbuse:
    """A frame that has no place here."""
    return StreamAbuse(Reset(code="protocol", message=message, fault=Fault.PROVIDER))


class TunnelStream:
    """Fed frame by frame by the link's reader, read by one consumer. Never blocks the reader.

    `credit` sends a frame back; `release` takes bytes off the link's own total of what waits for slow consumers.
    """

    __slots__ = (
        "_chunks", "_ended", "_failure", "_head", "_loop", "_release", "_send_frame", "_waiter", "_window", "id", "send_window",
    )  # fmt: skip

    def __init__(
        self, stream_id: int, *, send_frame: Callable[[bytes], None], release: Callable[[int], None]
    ) -> None:
        self.id = stream_id
        self.send_window = SendWindow()
        self._window = ReceiveWindow()
        self._loop = asyncio.get_running_loop()
        self._chunks: list[bytes] = []
        self._head: ResponseHead | None = None
        self._ended = False
        self._failure: UpstreamBroken | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._send_frame = send_frame
        self._release = release

    @property
    def over(self) -> bool:
        """Whether nothing more can arrive."""
        return self._ended or self._failure is not None

    @property
    def head(self) -> ResponseHead | None:
        """The response's head, once it is here."""
        return self._head

    @property
    def buffered_bytes(self) -> int:
        """DATA that the consumer has not taken yet."""
        return sum(map(len, self._chunks))

    def feed_data(self, payload: bytes) -> None:
        """Take a piece of the response's body. Raises: StreamAbuse."""
        if self._head is None:
            raise protocol_abuse("DATA before HEAD")
        try:
            self._window.arrived(len(payload))
        except ValueError as error:
            raise StreamAbuse(Reset(code="limit", message=str(error), fault=Fault.PROVIDER)) from None
        self._chunks.append(payload)
        self._wake()

    def feed(self, kind: FrameType, payload: bytes) -> None:
        """Take any other frame from the node. Raises: StreamAbuse."""
        if kind is FrameType.WINDOW:
            self._feed_credit(payload)
        elif kind is FrameType.HEAD:
            self._feed_head(payload)
        elif kind is FrameType.END:
            if self._head is None:
                raise protocol_abuse("END before HEAD")
            self._ended = True
        elif kind is FrameType.RESET:
            self.fail(_failure_of(payload))
        else:
            raise protocol_abuse(f"{kind.name} from a node")
        self._wake()

    def fail(self, failure: UpstreamBroken) -> None:
        """End the stream with `failure`, after the chunks that arrived before it. The first failure stays."""
        if not self.over:
            self._failure = failure
        self._wake()

    async def wait(self) -> None:
        """Return after the next frame or failure. One consumer at a time; the caller bounds the wait."""
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    async def wait_for_head(self) -> ResponseHead:
        """The response's head. Raises: UpstreamBroken when none arrives."""
        while self._head is None:
            if self._failure is not None:
                raise self._failure
            await self.wait()
        return self._head

    def __aiter__(self) -> Self:
        """The body as it arrives."""
        return self

    async def __anext__(self) -> bytes:
        """What has arrived of the body since the last time, in one piece. Raises: UpstreamBroken."""
        chunks = self._chunks
        while not chunks:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            # As in `wait`, without the coroutine around it: this runs for each token of each customer.
            self._waiter = waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        chunk = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        size = len(chunk)
        self._release(size)
        if (credit := self._window.consumed(size)) and not self.over:
            self._send_frame(pack_frame(FrameType.WINDOW, self.id, pack_credit(credit)))
        return chunk

    def discard(self) -> None:
        """Drop what was buffered; the consumer has left."""
        self._release(self.buffered_bytes)
        self._chunks.clear()

    def _feed_credit(self, payload: bytes) -> None:
        try:
            self.send_window.grant(unpack_credit(payload))
        except ValueError as error:
            raise protocol_abuse(str(error)) from None

    def _feed_head(self, payload: bytes) -> None:
        if self._head is not None:
            raise protocol_abuse("a second HEAD")
        try:
            head = decode_head(payload)
        except UNREADABLE as error:
            raise protocol_abuse(f"a HEAD that cannot be read: {type(error).__name__}") from None
        if not 200 <= head.status <= 599:
            raise protocol_abuse(f"status {head.status} is outside 200..599")
        self._head = head

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def reset_frame(stream_id: int, reset: Reset) -> bytes:
    """`reset` as a frame of stream `stream_id`; a long message is cut."""
    if len(reset.message) > 500:
        reset = Reset(code=reset.code, message=reset.message[:500], fault=reset.fault)
    return pack_frame(FrameType.RESET, stream_id, encode(reset))


def _failure_of(payload: bytes) -> UpstreamBroken:
    """What a node's RESET means. The fault is ours to decide: a node may not blame the customer or the network."""
    try:
        reset = decode_reset(payload)
    except UNREADABLE as error:
        raise protocol_abuse(f"a RESET that cannot be read: {type(error).__name__}") from None
    # The code alone, which is one of a few: a node's own words may quote what was asked or answered, and this is stored.
    return UpstreamBroken(f"the node reset the stream: {reset.code}", fault=Fault.PROVIDER)
