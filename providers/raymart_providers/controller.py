"""The pool controller: beside a pool's Ray head it makes Serve run what the marketplace wants, and says what is true.

Applies when the wanted placements differ from what was applied, when Serve has lost one, or when the connection to
Ray is a fresh one. Works on through a lost link with the last wanted placements, and through a lost Ray with a
report that says so.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from http import HTTPStatus

import msgspec
import structlog

from raymart_core.units import Fault
from raymart_core.wire.link import (
    Announce,
    Control,
    Desired,
    FrameType,
    Observed,
    Placement,
    Report,
    Reset,
    Welcome,
    encode,
    pack_frame,
)
from raymart_providers.agent import link_report
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.client import LinkClient, heartbeat_of
from raymart_providers.link.handshake import AGENT_VERSION, Credentials
from raymart_providers.link.outbox import Outbox
from raymart_providers.loopback import Answer, LoopbackServer, Request
from raymart_providers.pool_process import PoolAway, PoolProcess
from raymart_providers.status import STATUS_PATH, AgentReport, PlacementReport

log = structlog.get_logger()

_REAPPLY_S = 60.0
"""While a placement does not run, all are applied again this often: Serve does nothing for those it runs already.
Much longer than a start takes on a busy machine, for Serve begins anew with those that are still starting."""


def worker_command(ray_address: str) -> tuple[str, ...]:
    """The command of the process that speaks to Ray at `ray_address` (host:port)."""
    return (sys.executable, "-m", "raymart_providers.pool_worker", ray_address)


class PoolController:
    """One pool's controller. `run` ends after `stop`."""

    def __init__(
        self,
        *,
        url: str,
        credentials: Credentials,
        pool: PoolProcess,
        interval_s: float = 1.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._credentials = credentials
        self._url = url
        self._pool = pool
        self._interval_s = interval_s
        self._peer = _ControllerPeer(credentials)
        self._client = LinkClient(
            url=url, credentials=credentials, peer=self._peer, backoff=backoff, drain_s=0.0
        )
        self._server = LoopbackServer(self._answer)
        self._applied: Desired | None = None
        self._applied_at = 0.0
        self._pause = Backoff(first_s=0.5, longest_s=10.0)

    def stop(self) -> None:
        """Say goodbye and end; what runs in Serve runs on."""
        self._client.stop()

    async def run(self) -> None:
        """Serve until `stop`. Raises: LinkRefused when a retry is of no use; NotEnrolled, UnsafeFile."""
        await self._server.start(self._credentials.state.agent_file)
        reconciler = asyncio.create_task(self._reconcile_forever())
        try:
            await self._client.run()
        finally:
            reconciler.cancel()
            await asyncio.gather(reconciler, return_exceptions=True)
            await self._pool.close()
            await self._server.stop()

    def report(self) -> AgentReport:
        """What `raymart-provider status` shows."""
        wanted = {placement.placement_id: placement for placement in self._peer.placements}
        return AgentReport(
            name=self._credentials.name,
            role="controller",
            node_id=self._client.status.node_id,
            version=AGENT_VERSION,
            pid=os.getpid(),
            link=link_report(self._client.status, self._url),
            placements=tuple(
                PlacementReport(
                    placement_id=seen.placement_id,
                    node=wanted[seen.placement_id].node if seen.placement_id in wanted else "",
                    model=wanted[seen.placement_id].model if seen.placement_id in wanted else "",
                    state=seen.state,
                    replicas=seen.replicas,
                    reason=seen.reason,
                )
                for seen in self._peer.observed
            ),
        )

    async def _reconcile_forever(self) -> None:
        while True:
            await self._peer.wait_for_change(timeout_s=self._interval_s)
            desired = self._peer.desired
            if desired is None:
                continue  # Nothing is known yet; an empty pool must not be concluded from silence.
            try:
                await self._reconcile(desired)
                self._pause.reset()
            except PoolAway as error:
                log.warning("pool.away", reason=str(error))
                self._peer.observe(_away(desired.placements, str(error)))
                await asyncio.sleep(self._pause.next_s())

    async def _reconcile(self, desired: Desired) -> None:
        if not self._pool.connected:
            self._applied = None
            await self._pool.connect()
        loop = asyncio.get_running_loop()
        missing = _missing(desired.placements, self._peer.observed)
        if self._is_applied(desired) and not (missing and loop.time() - self._applied_at > _REAPPLY_S):
            self._peer.observe(await self._pool.call(None))
            return
        log.info(
            "placements.applying",
            generation=desired.generation,
            placements=len(desired.placements),
            missing=list(missing),
        )
        observed = await self._pool.call(desired.placements)
        self._applied, self._applied_at = desired, loop.time()
        self._peer.observe(observed)

    def _is_applied(self, desired: Desired) -> bool:
        return self._applied is not None and self._applied.placements == desired.placements

    def _answer(self, request: Request) -> Answer:
        if (request.method, request.path) == ("GET", STATUS_PATH):
            return Answer(HTTPStatus.OK, msgspec.json.encode(self.report()))
        return Answer(HTTPStatus.NOT_FOUND, b'{"message":"GET /v1/status"}')


class _ControllerPeer:
    """The controller's end of a live link. Implements link.client.Peer."""

    def __init__(self, credentials: Credentials) -> None:
        self.desired: Desired | None = None
        self.observed: tuple[Observed, ...] = ()
        self._hardware = credentials.hardware
        self._outbox: Outbox | None = None
        self._changed = asyncio.Event()

    @property
    def placements(self) -> tuple[Placement, ...]:
        """What should run."""
        return () if self.desired is None else self.desired.placements

    async def wait_for_change(self, *, timeout_s: float) -> None:
        """Return when other placements are wanted, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def observe(self, observed: tuple[Observed, ...]) -> None:
        """Keep what is true, and report it at once when it is news."""
        if observed != self.observed:
            self.observed = observed
            for seen in observed:
                log.info(
                    "placement.observed",
                    placement_id=seen.placement_id,
                    state=seen.state,
                    replicas=seen.replicas,
                    reason=seen.reason[:200],
                )
            self._report()

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """Announce this machine; `Desired` follows by itself."""
        del welcome
        self._outbox = outbox
        outbox.control(Announce(hardware=self._hardware, replicas=()))

    def down(self) -> None:
        """Nothing is carried that could break."""
        self._outbox = None

    def take_control(self, message: Control) -> None:
        """Note other placements."""
        if isinstance(message, Desired):
            log.info("placements.received", generation=message.generation, placements=len(message.placements))
            self.desired = message
            self._changed.set()

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
            self._report()

    async def drain(self) -> None:
        """Nothing runs here."""

    def _report(self) -> None:
        if self._outbox is not None and self.desired is not None:
            self._outbox.control(Report(generation=self.desired.generation, observed=self.observed))


def _missing(placements: Sequence[Placement], observed: Sequence[Observed]) -> tuple[str, ...]:
    """Ids of wanted placements that do not run."""
    running = {seen.placement_id for seen in observed if seen.state == "running"}
    return tuple(placement.placement_id for placement in placements if placement.placement_id not in running)


def _away(placements: Sequence[Placement], reason: str) -> tuple[Observed, ...]:
    """What is true of the placements while Ray cannot be asked."""
    return tuple(
        Observed(
            placement_id=placement.placement_id,
            state="placing",
            replicas=0,
            reason=f"the pool's Ray cluster is away: {reason}"[:500],
        )
        for placement in placements
    )
