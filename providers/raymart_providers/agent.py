"""The node agent: registrations of replicas in, announcements and heartbeats out, inference through the tunnel."""

import asyncio
import os
from collections.abc import Callable, Sequence
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
from raymart_core.wire.membership import DrainAsk
from raymart_providers.duty import Duty, run_beside
from raymart_providers.errors import ProviderError
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.client import LinkClient, LinkStatus, heartbeat_of
from raymart_providers.link.handshake import AGENT_VERSION, Credentials
from raymart_providers.link.outbox import Outbox
from raymart_providers.loopback import Answer, LoopbackServer, Request
from raymart_providers.model_cache import ModelHost
from raymart_providers.ray_process import MachineRay
from raymart_providers.replicas import ReplicaBook
from raymart_providers.standing import Standing
from raymart_providers.status import (
    DRAIN_PATH,
    ROTATE_PATH,
    STATUS_PATH,
    AgentReport,
    LinkReport,
    ModelReport,
    ReplicaReport,
)
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
        ray: MachineRay | None = None,
        duties: Sequence[Duty] = (),
    ) -> None:
        self._credentials = credentials
        self._url = url
        self._book = ReplicaBook(on_change=self._announce_soon, direct=direct)
        self._models = models(self._announce_soon) if models is not None else None
        self._ray = ray
        self._drain_s = drain_s
        if ray is not None:
            ray.before_renewal(self.quiesce)
        self._standing = Standing(credentials)
        self._duties = (*duties, self._standing, *((ray,) if ray is not None else ()))
        self._peer = _NodePeer(self._book, credentials, self._models, ray=ray, duties=self._duties)
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
            await run_beside(self._client.run(), self._duties)
        finally:
            await self._book.close()
            await self._server.stop()
            if self._models is not None:
                await self._models.close()
        log.info("agent.stopped", name=self._credentials.name)

    async def quiesce(self) -> None:
        """Take the replicas that are here out of routing; return when they rest, or after the drain's time."""
        self._book.retire()
        try:
            async with asyncio.timeout(self._drain_s):
                await self._peer.idle()
        except TimeoutError:
            log.warning("drain.cut", drain_s=self._drain_s)

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
            placements=self._ray.placements() if self._ray is not None else (),
            ray=self._ray.report() if self._ray is not None else None,
            standing=self._standing.report(),
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
        act = self._acts().get((request.method, request.path))
        if act is None:
            return Answer(HTTPStatus.NOT_FOUND, _said("POST /v1/replicas, /v1/models or GET /v1/status"))
        try:
            return Answer(HTTPStatus.OK, act(request.body) or b"{}")
        except ProviderError as error:
            return Answer(HTTPStatus.TOO_MANY_REQUESTS, _said(str(error)))
        except (ValueError, RecursionError) as error:
            return Answer(HTTPStatus.BAD_REQUEST, _said(str(error)))

    def _acts(self) -> dict[tuple[str, str], Callable[[bytes], bytes | None]]:
        """What replicas and the owner's commands may ask, by method and path."""
        acts: dict[tuple[str, str], Callable[[bytes], bytes | None]] = {
            ("GET", STATUS_PATH): lambda _: msgspec.json.encode(self.report()),
            ("POST", REGISTRATION_PATH): lambda body: self._book.register(decode_registration(body)),
            ("POST", DRAIN_PATH): lambda body: self._standing.ask_drain(
                msgspec.json.decode(body, type=DrainAsk)
            ),
            ("POST", ROTATE_PATH): lambda _: self._standing.ask_rotation(),
        }
        if (models := self._models) is not None:
            acts["POST", OPEN_PATH] = lambda body: msgspec.json.encode(
                models.open(msgspec.json.decode(body, type=OpenModel))
            )
            acts["POST", DAMAGED_PATH] = lambda body: models.damaged(
                msgspec.json.decode(body, type=DamagedArtifact)
            )
        return acts


def _said(message: str) -> bytes:
    return msgspec.json.encode({"message": message})


class _NodePeer:
    """The node's end of a live link. Implements link.client.Peer."""

    def __init__(
        self,
        book: ReplicaBook,
        credentials: Credentials,
        models: ModelHost | None,
        *,
        ray: MachineRay | None,
        duties: Sequence[Duty],
    ) -> None:
        self._book = book
        self._ray = ray
        self._duties = duties
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
        self._outbox = outbox
        self._tunnel = Tunnel(self._book, outbox, on_idle=self._idle.set)
        # Before the announcement, which tells what they have made of the welcome.
        for duty in self._duties:
            duty.up(outbox, welcome)
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
        for duty in self._duties:
            duty.down()
        if self._models is not None:
            self._models.down()

    def take_control(self, message: Control) -> None:
        """What is said of weights goes to the model cache; what later versions say is let pass."""
        if self._models is not None and isinstance(message, Prefetch | ArtifactGrants | ArtifactRefusal):
            self._models.take(message)
        elif not any(duty.take(message) for duty in self._duties):
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
            waiting = {
                local.registration.replica_id: local.registration.waiting
                for local in self._book.all()
                if local.registration.waiting > 0
            }
            self._outbox.control(heartbeat_of(running, waiting))
            for duty in self._duties:
                duty.heartbeat()

    async def drain(self) -> None:
        """Refuse new streams; return when the last one has ended."""
        if self._tunnel is None:
            return
        self._tunnel.drain()
        await self.idle()

    async def idle(self) -> None:
        """Return when no tunnelled request runs."""
        while self._tunnel is not None and self._tunnel.running:
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
                Announce(
                    hardware=self._hardware,
                    replicas=self._book.announced(),
                    cache=cache,
                    controls=self._ray is not None and self._ray.controls,
                )
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
