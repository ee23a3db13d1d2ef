"""Keeps one link to the marketplace: dial, prove, serve, and dial again with growing pauses until told to stop."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from raymart_core.wire.bundle import Frame, unpack_message
from raymart_core.wire.link import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    Control,
    FrameType,
    GoAway,
    Heartbeat,
    Leave,
    Refuse,
    Welcome,
    decode_control,
    encode,
    pack_frame,
    unpack_frame,
)
from raymart_providers.errors import LinkRefused
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.connection import LinkConnection
from raymart_providers.link.handshake import BadPeer, Credentials, Proven
from raymart_providers.link.outbox import LinkStalled, Outbox
from raymart_providers.link.server_address import is_loopback

log = structlog.get_logger()

_CONNECT_TIMEOUT_S = 10.0
_ESTABLISH_TIMEOUT_S = 30.0
"""Dial and handshake together."""
_PING_S = 5.0
_CLOSE_TIMEOUT_S = 2.0
_SKEW_MS_MAX = 5_000
"""A clock further off than this is reported; the link works all the same."""


class Peer(Protocol):
    """What a link is for on this side: a node's replicas, or a pool's placements."""

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """The link is live; `outbox` is good until `down`."""

    def take_control(self, message: Control) -> None:
        """A control message from the marketplace; must not wait."""

    def take_frame(self, kind: FrameType, stream_id: int, payload: bytes) -> None:
        """A tunnel frame from the marketplace; must not wait."""

    def heartbeat(self) -> None:
        """Time to send a heartbeat, and what goes with it."""

    def down(self) -> None:
        """The link is gone; drop what it carried."""

    def drain(self) -> Awaitable[None]:
        """Take no new work and wait until what runs has ended."""


LinkState = Literal["connecting", "live", "waiting", "draining", "stopped"]


@dataclass(slots=True, kw_only=True)
class LinkStatus:
    """How the link is doing, for `status` and `doctor`."""

    state: LinkState = "connecting"
    since: float = 0.0
    """Unix time of the last change of `state`."""
    node_id: str | None = None
    pool: str | None = None
    error: str | None = None
    """Why the last attempt or link ended."""
    failures: int = 0
    """Attempts in a row that came to nothing."""
    clock_skew_ms: int | None = None


class LinkClient:
    """One link, kept alive. `run` returns after `stop`, or raises what retrying cannot mend."""

    def __init__(
        self,
        *,
        url: str,
        credentials: Credentials,
        peer: Peer,
        backoff: Backoff | None = None,
        drain_s: float = 20.0,
    ) -> None:
        self.status = LinkStatus(since=time.time())
        self._url = url
        self._credentials = credentials
        self._peer = peer
        self._backoff = backoff or Backoff()
        self._drain_s = drain_s
        self._stopping = asyncio.Event()
        self._dialling: asyncio.Timeout | None = None

    def stop(self) -> None:
        """Drain and end; `run` returns soon. A dial in progress is given up at once."""
        self._stopping.set()
        if self._dialling is not None and not self._dialling.expired():
            self._dialling.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Keep the link until `stop`. Raises: LinkRefused when a retry is of no use; NotEnrolled, UnsafeFile."""
        while not self._stopping.is_set():
            self._note("connecting")
            try:
                await self._link_once()
            except LinkRefused as refusal:
                if refusal.reason == "bad_proof" and self._credentials.try_next_key():
                    log.warning("key.other_tried")
                    continue
                if not refusal.retry:
                    raise
                self._note("waiting", error=str(refusal))
            except (OSError, WebSocketException, BadPeer) as error:
                self._note("waiting", error=_reason(error))
            if not self._stopping.is_set():
                await self._pause()
        self._note("stopped")

    async def _pause(self) -> None:
        delay_s = self._backoff.next_s()
        self.status.failures = self._backoff.failures
        log.info(
            "link.waiting",
            delay_s=round(delay_s, 2),
            failures=self._backoff.failures,
            error=self.status.error,
        )
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _link_once(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_ESTABLISH_TIMEOUT_S) as self._dialling:
                    socket = cast("LinkConnection", await stack.enter_async_context(_dial(self._url)))
                    proven = await self._credentials.prove(socket)
            finally:
                self._dialling = None
            self._welcome(proven)
            began_at = time.monotonic()
            try:
                await self._serve(socket, proven.welcome)
            finally:
                self._peer.down()
                if time.monotonic() - began_at > proven.welcome.lease_s:
                    # Only a link that held ends the growth of the pauses: one that breaks at once is a failure.
                    self._backoff.reset()

    def _welcome(self, proven: Proven) -> None:
        self.status.node_id = proven.node_id
        self.status.pool = proven.welcome.pool
        self.status.clock_skew_ms = proven.clock_skew_ms
        self._note("live")
        log.info("link.live", node_id=proven.node_id, pool=proven.welcome.pool, name=proven.welcome.name)
        if abs(proven.clock_skew_ms) > _SKEW_MS_MAX:
            log.warning("clock.skewed", skew_ms=proven.clock_skew_ms)

    async def _serve(self, socket: LinkConnection, welcome: Welcome) -> None:
        """Until the marketplace closes (raises) or a drain is over (returns)."""
        outbox = Outbox(bundles=welcome.bundles)
        self._peer.up(outbox, welcome)
        # A marketplace of many nodes, which asks for few heartbeats, would have more to do with pings than with these.
        socket.ping_interval = max(_PING_S, welcome.heartbeat_s)
        # The writer's end decides nothing: one that fails first would hide the marketplace's last word, which is
        # still to be read.
        writer = asyncio.create_task(self._write(socket, outbox))
        deciders = [
            asyncio.create_task(self._read(socket)),
            asyncio.create_task(self._heartbeat(welcome.heartbeat_s)),
            asyncio.create_task(self._drain_when_stopping(outbox)),
        ]
        try:
            done, _ = await asyncio.wait(deciders, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancel(writer, *deciders)

    async def _read(self, socket: LinkConnection) -> None:
        take_frame = self._peer.take_frame
        async for message in socket:
            if isinstance(message, str):
                raise BadPeer("a text message; the link carries binary frames only")
            for kind, stream_id, payload in _frames_of(message):
                if kind is not FrameType.CONTROL:
                    take_frame(kind, stream_id, payload)
                else:
                    self._take_control(_control_of(payload))
        raise BadPeer("the marketplace closed the link")

    def _take_control(self, message: Control) -> None:
        if isinstance(message, Refuse):
            raise LinkRefused(message.reason, message.message, retry=message.retry)
        if isinstance(message, GoAway):
            log.info("link.going_away", reason=message.reason, drain_s=message.drain_s)
            if message.reason == "superseded":
                # Dialling again would only throw the other one out, and so on for ever.
                raise LinkRefused(
                    "superseded",
                    "another agent has connected with this node's key; run only one per state directory",
                    retry=False,
                )
            return
        self._peer.take_control(message)

    async def _write(self, socket: LinkConnection, outbox: Outbox) -> None:
        try:
            await outbox.run(socket.write)
        except ConnectionClosed:
            return  # The reader tells why.
        except LinkStalled:
            log.warning("link.stalled")
            await socket.close(1013, "stalled")

    async def _heartbeat(self, heartbeat_s: float) -> None:
        while True:
            self._peer.heartbeat()
            await asyncio.sleep(heartbeat_s)

    async def _drain_when_stopping(self, outbox: Outbox) -> None:
        await self._stopping.wait()
        self._note("draining")
        outbox.control(GoAway(drain_s=self._drain_s, reason="the agent is stopping"))
        try:
            async with asyncio.timeout(self._drain_s):
                await self._peer.drain()
                await outbox.flushed()
        except TimeoutError:
            log.warning("drain.cut", drain_s=self._drain_s)

    def _note(self, state: LinkState, *, error: str | None = None) -> None:
        if error is not None:
            self.status.error = error
        if state == "live":
            self.status.failures = 0
            self.status.error = None
        self.status.state = state
        self.status.since = time.time()


def heartbeat_of(running: dict[str, int], waiting: dict[str, int] | None = None) -> Heartbeat:
    """A heartbeat of this moment."""
    return Heartbeat(clock_ms=time.time_ns() // 1_000_000, running=running, waiting=waiting or {})


async def enrol(url: str, credentials: Credentials) -> None:
    """Make this machine a node, or prove once that it is one, and hang up.

    Raises: LinkRefused, NotEnrolled, OSError, WebSocketException, BadPeer.
    """
    async with asyncio.timeout(2 * _CONNECT_TIMEOUT_S), _dial(url) as socket:
        await credentials.prove(socket)


async def revoke(url: str, credentials: Credentials) -> None:
    """Prove the key once more and ask for its end.

    Raises: LinkRefused (`left` when it was done), OSError, WebSocketException, BadPeer.
    """
    async with asyncio.timeout(2 * _CONNECT_TIMEOUT_S), _dial(url) as socket:
        await credentials.prove(socket)
        await socket.send(pack_frame(FrameType.CONTROL, 0, encode(Leave())))
        async for message in socket:
            _check_refusal(message)
    raise BadPeer("the marketplace closed the link without an answer")


def _dial(url: str) -> connect:
    return connect(
        url,
        create_connection=LinkConnection,
        compression=None,
        max_size=HEADER_BYTES + FRAME_BYTES_MAX,
        ping_interval=_PING_S,
        ping_timeout=_PING_S,
        open_timeout=_CONNECT_TIMEOUT_S,
        close_timeout=_CLOSE_TIMEOUT_S,
        # A proxy of the environment must not be asked for this machine itself.
        proxy=None if is_loopback(urlsplit(url).hostname or "") else True,
    )


def _frames_of(message: bytes) -> Sequence[Frame]:
    """Raises: BadPeer."""
    try:
        return unpack_message(message)
    except ValueError as error:
        raise BadPeer(f"a message that cannot be read: {error}") from None


def _control_of(payload: bytes) -> Control:
    """Raises: BadPeer."""
    try:
        message: Control = decode_control(payload)
    except (ValueError, RecursionError) as error:
        raise BadPeer(f"a control message that cannot be read: {error}") from None
    return message


def _check_refusal(message: str | bytes) -> None:
    """Raises: LinkRefused when `message` is one."""
    if isinstance(message, bytes):
        kind, _, payload = unpack_frame(message)
        if kind is FrameType.CONTROL and isinstance(control := decode_control(payload), Refuse):
            raise LinkRefused(control.reason, control.message, retry=control.retry)


async def _cancel(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
