"""The node agent: registrations of replicas in, announcements and heartbeats out, inference through the tunnel."""

import asyncio
import os
from collections.abc import Callable
from http import HTTPStatus

import msgspec
import structlog

from raymart_core.wire.link import (
    Announce,
    ArtifactGrants,
    ArtifactRefusal,
    Control,
    FrameType,
    Prefetch,
    Welcome,
)
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.client import LinkClient, LinkStatus, heartbeat_of
from raymart_providers.link.handshake import AGENT_VERSION, Credentials
from raymart_providers.link.outbox import Outbox
from raymart_providers.loopback import Answer, LoopbackServer, Request
from raymart_providers.model_cache import ModelHost
from raymart_providers.replicas import ReplicaBook
from raymart_providers.status import STATUS_PATH, AgentReport, LinkReport, ModelReport, ReplicaReport
from raymart_providers.tunnel import Tunnel
from raymart_serve.models.agent_api import DAMAGED_PATH, OPEN_PATH, DamagedArtifact, OpenModel
from raymart_serve.models.cache import is_pinned, last_used
from raymart_serve.replica.registration import REGISTRATION_PATH, decode_registration

log = structlog.get_logger()

_ANNOUNCE_INTERVAL_S = 0.1
"""Changes that come faster are announced together; the marketplace limits control messages."""


MakeModelHost = Callable[[Callable[[], None]], ModelHost]
"""Makes the node's model cache, which calls back when what it holds has changed."""


class NodeAgent:
    """One machine's agent. `run` ends after `stop`."""

    def __init__(
        self,
        *,
        url: str,
        credentials: Credentials,
        direct: bool = False,
        drain_s: float = 20.0,
        backoff: Backoff | None = None,
        models: MakeModelHost | None = None,
    ) -> None:
        self._credentials = credentials
        self._url = url
        self._book = ReplicaBook(on_change=self._announce_soon, direct=direct)
        self._models = models(self._announce_soon) if models is not None else None
        self._peer = _NodePeer(self._book, credentials, self._models)
        self._client = LinkClient(
            url=url, credentials=credentials, peer=self._peer, backoff=backoff, drain_s=drain_s
        )
        self._server = LoopbackServer(self._answer)

    def stop(self) -> None:
        """Say goodbye, drain and end."""
        self._client.stop()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises: LinkRefused when a retry is of no use; NotEnrolled, UnsafeFile; WeightsUnavailable when another agent
        has the model cache.
        """
        if self._models is not None:
            await self._models.start()
        try:
            await self._server.start(self._credentials.state.agent_file)
            log.info("agent.started", name=self._credentials.name, server=self._url)
            await self._client.run()
        finally:
            await self._book.close()
            await self._server.stop()
            if self._models is not None:
                await self._models.close()
        log.info("agent.stopped", name=self._credentials.name)

    def report(self) -> AgentReport:
        """What `raymart-provider status` shows."""
        return AgentReport(
            name=self._credentials.name,
            role="node",
            node_id=self._client.status.node_id,
            version=AGENT_VERSION,
            pid=os.getpid(),
            link=link_report(self._client.status, self._url),
            replicas=tuple(
                ReplicaReport(
                    replica_id=local.registration.replica_id,
                    model=local.registration.model,
                    state=local.registration.state,
                    running=local.running,
                    capacity=local.registration.capacity,
                )
                for local in self._book.all()
            ),
            running=self._peer.running,
            models=tuple(
                ModelReport(
                    revision=cached.digest,
                    engine=cached.manifest.engine,
                    stored_bytes=cached.stored_bytes,
                    last_used=last_used(cached) / 1e9,
                    loaded=is_pinned(cached),
                )
                for cached in (self._models.cached() if self._models is not None else ())
            ),
        )

    def _announce_soon(self) -> None:
        self._peer.announce_soon()

    def _answer(self, request: Request) -> Answer:
        try:
            match request.method, request.path:
                case "GET", path if path == STATUS_PATH:
                    return Answer(HTTPStatus.OK, msgspec.json.encode(self.report()))
                case "POST", path if path == REGISTRATION_PATH:
                    self._book.register(decode_registration(request.body))
                    return Answer(HTTPStatus.OK)
                case "POST", path if path == OPEN_PATH and self._models is not None:
                    ask = msgspec.json.decode(request.body, type=OpenModel)
                    return Answer(HTTPStatus.OK, msgspec.json.encode(self._models.open(ask)))
                case "POST", path if path == DAMAGED_PATH and self._models is not None:
                    self._models.damaged(msgspec.json.decode(request.body, type=DamagedArtifact))
                    return Answer(HTTPStatus.OK)
        except (ValueError, RecursionError) as error:
            return Answer(HTTPStatus.BAD_REQUEST, msgspec.json.encode({"message": str(error)}))
        return Answer(HTTPStatus.NOT_FOUND, b'{"message":"POST /v1/replicas, /v1/models or GET /v1/status"}')


class _NodePeer:
    """The node's end of a live link. Implements link.client.Peer."""

    def __init__(self, book: ReplicaBook, credentials: Credentials, models: ModelHost | None) -> None:
        self._book = book
        self._models = models
        self._hardware = credentials.hardware
        self._outbox: Outbox | None = None
        self._tunnel: Tunnel | None = None
        self._idle = asyncio.Event()
        self._announced_at = 0.0
        self._announcement: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """Tunnelled requests in flight."""
        return self._tunnel.running if self._tunnel is not None else 0

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """A fresh tunnel for a fresh link, and everything that is here announced."""
        del welcome
        self._outbox = outbox
        self._tunnel = Tunnel(self._book, outbox, on_idle=self._idle.set)
        self._announce()
        if self._models is not None:
            self._models.up(outbox)

    def down(self) -> None:
        """Close what the link carried."""
        if self._announcement is not None:
            self._announcement.cancel()
            self._announcement = None
        if self._tunnel is not None:
            self._tunnel.lost()
        self._tunnel = None
        self._outbox = None
        if self._models is not None:
            self._models.down()

    def take_control(self, message: Control) -> None:
        """What is said of weights goes to the model cache; what later versions say is let pass."""
        if self._models is not None and isinstance(message, Prefetch | ArtifactGrants | ArtifactRefusal):
            self._models.take(message)
        else:
            log.info("link.message_ignored", message=type(message).__name__)

    def take_frame(self, kind: FrameType, stream_id: int, payload: bytes) -> None:
        """A frame of the tunnel."""
        if self._tunnel is not None:
            self._tunnel.take(kind, stream_id, payload)

    def heartbeat(self) -> None:
        """Still here, and this is what runs."""
        if self._outbox is not None:
            running = {
                local.registration.replica_id: local.running for local in self._book.all() if local.running
            }
            self._outbox.control(heartbeat_of(running))

    async def drain(self) -> None:
        """Refuse new streams; return when the last one has ended."""
        if self._tunnel is None:
            return
        self._tunnel.drain()
        while self._tunnel.running:
            self._idle.clear()
            await self._idle.wait()

    def announce_soon(self) -> None:
        """Tell the marketplace of a change: at once, unless another was told a moment ago."""
        if self._outbox is None or self._announcement is not None:
            return
        loop = asyncio.get_running_loop()
        due_in_s = self._announced_at + _ANNOUNCE_INTERVAL_S - loop.time()
        if due_in_s <= 0:
            self._announce()
        else:
            self._announcement = loop.call_later(due_in_s, self._announce)

    def _announce(self) -> None:
        self._announcement = None
        if self._outbox is not None:
            self._announced_at = asyncio.get_running_loop().time()
            cache = self._models.announced() if self._models is not None else None
            self._outbox.control(
                Announce(hardware=self._hardware, replicas=self._book.announced(), cache=cache)
            )


def link_report(status: LinkStatus, url: str) -> LinkReport:
    """`status` for people."""
    return LinkReport(
        state=status.state,
        since=status.since,
        server=url,
        pool=status.pool,
        error=status.error,
        failures=status.failures,
        clock_skew_ms=status.clock_skew_ms,
    )
