"""The pool controller: beside a pool's Ray head it keeps the pool's placements, over a link of its own."""

import os
from http import HTTPStatus

import msgspec
import structlog

from raymart_core.units import Fault
from raymart_core.wire.link import Announce, Control, FrameType, Reset, Welcome, encode, pack_frame
from raymart_providers.agent import link_report
from raymart_providers.duty import Running, run_beside
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.client import LinkClient, heartbeat_of
from raymart_providers.link.handshake import AGENT_VERSION, Credentials
from raymart_providers.link.outbox import Outbox
from raymart_providers.loopback import Answer, LoopbackServer, Request
from raymart_providers.placement_keeper import PlacementKeeper
from raymart_providers.ray_process.member import PoolMember
from raymart_providers.status import STATUS_PATH, AgentReport

log = structlog.get_logger()


class PoolController:
    """One pool's controller. `run` ends after `stop`."""

    def __init__(
        self,
        *,
        url: str,
        credentials: Credentials,
        keeper: PlacementKeeper,
        head: PoolMember | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """`head` is the pool's Ray head where this process runs it, too."""
        self._credentials = credentials
        self._url = url
        self._keeper = keeper
        self._head = head
        self._client = LinkClient(
            url=url,
            credentials=credentials,
            peer=_ControllerPeer(credentials, keeper, head),
            backoff=backoff,
            drain_s=0.0,
        )
        self._server = LoopbackServer(self._answer)

    def stop(self) -> None:
        """Say goodbye and end; what runs in Serve runs on."""
        self._client.stop()

    async def run(self) -> None:
        """Serve until `stop`. Raises: LinkRefused when a retry is of no use; NotEnrolled, UnsafeFile."""
        await self._server.start(self._credentials.state.agent_file)
        try:
            beside: list[Running] = [self._keeper] if self._head is None else [self._keeper, self._head]
            await run_beside(self._client.run(), beside)
        finally:
            await self._server.stop()

    def report(self) -> AgentReport:
        """What `raymart-provider status` shows."""
        return AgentReport(
            name=self._credentials.name,
            role="controller",
            node_id=self._client.status.node_id,
            version=AGENT_VERSION,
            pid=os.getpid(),
            link=link_report(self._client.status, self._url),
            placements=self._keeper.placements(),
            ray=self._head.report("house", "head") if self._head is not None else None,
        )

    def _answer(self, request: Request) -> Answer:
        if (request.method, request.path) == ("GET", STATUS_PATH):
            return Answer(HTTPStatus.OK, msgspec.json.encode(self.report()))
        return Answer(HTTPStatus.NOT_FOUND, b'{"message":"GET /v1/status"}')


class _ControllerPeer:
    """The controller's end of a live link. Implements link.client.Peer."""

    def __init__(self, credentials: Credentials, keeper: PlacementKeeper, head: PoolMember | None) -> None:
        self._keeper = keeper
        self._head = head
        self._hardware = credentials.hardware
        self._outbox: Outbox | None = None

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """Announce this machine."""
        self._outbox = outbox
        outbox.control(Announce(hardware=self._hardware, replicas=()))
        self._keeper.up(outbox, welcome)
        if self._head is not None:
            self._head.up(outbox)

    def down(self) -> None:
        """Nothing is carried that could break."""
        self._outbox = None
        self._keeper.down()
        if self._head is not None:
            self._head.down()

    def take_control(self, message: Control) -> None:
        """Placements, or membership for the head; what later versions say is let pass."""
        if not self._keeper.take(message) and not (self._head is not None and self._head.take(message)):
            log.info("link.message_ignored", message=type(message).__name__)

    def take_frame(self, kind: FrameType, stream_id: int, payload: bytes) -> None:
        """A controller has no replicas: refuse."""
        del payload
        if kind is FrameType.OPEN and self._outbox is not None:
            reset = Reset(code="no_replica", message="this is a pool controller", fault=Fault.PLATFORM)
            self._outbox.frame(pack_frame(FrameType.RESET, stream_id, encode(reset)))

    def heartbeat(self) -> None:
        """Still here, and this is what is true."""
        if self._outbox is not None:
            self._outbox.control(heartbeat_of({}))
            self._keeper.heartbeat()

    async def drain(self) -> None:
        """Nothing runs here."""
