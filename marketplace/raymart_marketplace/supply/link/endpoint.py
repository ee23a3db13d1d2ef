"""The ASGI app of the route `/link`: admits proven nodes, one live link each, and keeps them until they end."""

import asyncio
import random
from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.clock import Clock, SystemClock
from raymart_core.wire.link import Refuse, Welcome
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.benchmarks import BenchmarkDesk
from raymart_marketplace.supply.demand_board import DemandBoard
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.enrolment import LinkRefused, NodeIdentity
from raymart_marketplace.supply.holders import Holders
from raymart_marketplace.supply.link.context import LinkContext
from raymart_marketplace.supply.link.duties import ControllerDuty, NodeDuty
from raymart_marketplace.supply.link.handshake import Handshake, Proven
from raymart_marketplace.supply.link.limits import LinkLimits
from raymart_marketplace.supply.link.link_book import LinkBook
from raymart_marketplace.supply.link.roll import RollCall
from raymart_marketplace.supply.link.session import Duty, LinkSession
from raymart_marketplace.supply.link.socket import (
    CLOSE_REFUSED,
    LinkClosed,
    LinkEnded,
    LinkSocket,
    Receive,
    Send,
    control_frame,
)
from raymart_marketplace.supply.link.wanted import WantedRounds
from raymart_marketplace.supply.membership import PoolDesk
from raymart_marketplace.supply.models import NodeRole
from raymart_marketplace.supply.pool_control import give_control_up
from raymart_marketplace.supply.telemetry import TelemetryBook
from raymart_marketplace.supply.weights import WeightsDesk

log = structlog.get_logger()

_REFUSAL_TIMEOUT_S = 2.0
_LOOK_OVER_S = 5.0


class LinkEndpoint:
    """Serve `/link`. Mount as `WebSocketRoute(LINK_PATH, endpoint)`; uvicorn's WebSocket implementation carries it."""

    def __init__(
        self,
        sessions: Sessions,
        directory: Directory,
        *,
        server_name: str,
        heartbeat_s: float = 1.0,
        lease_s: float = 4.0,
        limits: LinkLimits | None = None,
        clock: Clock | None = None,
        weights: WeightsDesk | None = None,
        pools: PoolDesk | None = None,
        benchmarks: BenchmarkDesk | None = None,
        telemetry: TelemetryBook | None = None,
        demand: DemandBoard | None = None,
        links: LinkBook | None = None,
    ) -> None:
        """`links` is told what nodes say; the directory, where it is not given."""
        assert heartbeat_s < lease_s, "a node must be able to miss a heartbeat"
        self._sessions = sessions
        self._directory = directory
        self._links_told: LinkBook = links or directory
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._limits = limits or LinkLimits()
        self._server_name = server_name
        self._roll = RollCall(
            sessions, recheck_s=self._limits.recheck_s, timeout_s=self._limits.step_timeout_s
        )
        self._handshake = Handshake(
            sessions=sessions,
            roll=self._roll,
            server_name=server_name,
            step_timeout_s=self._limits.step_timeout_s,
            clock=clock or SystemClock(),
        )
        self._weights = weights
        self._wanted = (
            WantedRounds(weights, directory, timeout_s=self._limits.step_timeout_s)
            if weights is not None
            else None
        )
        self._pools = pools
        self._benchmarks = benchmarks
        self._telemetry = telemetry
        self._demand = demand
        self.holders = Holders()
        """Which of this process's nodes share which revisions."""
        self._handshakes = 0
        self._links: dict[UUID, LinkSession] = {}
        self._duties: dict[UUID, tuple[NodeIdentity, Duty]] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one WebSocket from upgrade to close."""
        assert scope["type"] == "websocket"
        socket = LinkSocket(receive, send)
        try:
            await socket.accept()
            proven = await self._admit(socket)
        except LinkClosed:
            return
        if proven is not None:
            await self._serve(socket, proven)

    def disconnect(self, node_id: UUID) -> None:
        """End the node's live link after its key was revoked; without this it ends within `limits.recheck_s`."""
        link = self._links.get(node_id)
        if link is not None:
            link.end(
                LinkEnded(
                    "revoked",
                    "this node's key was revoked; enrol again with a new join token",
                    close_code=CLOSE_REFUSED,
                    retry=False,
                )
            )

    def look_at_node(self, node_id: UUID) -> None:
        """Somebody changed the node: its link ends if it is revoked, and it is told how it stands."""
        if node_id in self._duties:
            self._duties[node_id][1].look()

    def look_at_provider(self, provider_id: UUID) -> None:
        """Somebody changed the provider: the links of one that is suspended end."""
        for identity, duty in self._duties.values():
            if identity.provider_id == provider_id:
                duty.look()

    def look_at_all(self) -> None:
        """News may have been missed: each link looks again, over the next seconds, so that they do not all ask at once."""
        loop = asyncio.get_running_loop()
        for node_id in self._duties:
            # A look at a node whose link is gone by then does nothing.
            loop.call_later(random.uniform(0, _LOOK_OVER_S), self.look_at_node, node_id)  # noqa: S311  (no secret)

    async def _admit(self, socket: LinkSocket) -> Proven | None:
        """The proven node, or None after a refusal. Raises: LinkClosed."""
        if self._handshakes >= self._limits.handshakes_max:
            await _refuse(socket, "limit", "too many nodes are connecting at once; try again", retry=True)
            return None
        self._handshakes += 1
        try:
            return await self._handshake.run(socket)
        except (LinkRefused, LinkEnded) as refusal:
            await _refuse(socket, refusal.reason, refusal.message, retry=refusal.retry)
        except TimeoutError:
            await _refuse(socket, "timeout", "the handshake took too long; try again", retry=True)
        except (SQLAlchemyError, OSError) as error:
            log.warning("link.database_away", reason=str(error)[:200])
            await _refuse(socket, "unavailable", "the marketplace's database is away; try again", retry=True)
        finally:
            self._handshakes -= 1
        return None

    async def _serve(self, socket: LinkSocket, proven: Proven) -> None:
        identity = proven.identity
        link = LinkSession(
            socket, name=identity.name, lease_s=self._lease_s, limits=self._limits, bundles=proven.bundles
        )
        older = self._links.get(identity.node_id)
        self._links[identity.node_id] = link
        if older is not None:
            older.supersede()
        context = LinkContext(
            identity=identity,
            link=link,
            directory=self._directory,
            links=self._links_told,
            sessions=self._sessions,
            limits=self._limits,
            holders=self.holders,
            roll=self._roll,
            weights=self._weights,
            wanted=self._wanted,
            pools=self._pools,
            benchmarks=self._benchmarks,
            telemetry=self._telemetry,
            server_name=self._server_name,
            demand=self._demand,
        )
        duty = NodeDuty(context) if identity.role is NodeRole.NODE else ControllerDuty(context)
        self._duties[identity.node_id] = identity, duty
        link.outbox.frame(
            control_frame(
                Welcome(
                    heartbeat_s=self._heartbeat_s,
                    lease_s=self._lease_s,
                    pool=identity.pool_slug,
                    name=identity.name,
                    pool_kind=identity.pool_kind.value,
                    bundles=True,
                )
            )
        )
        log.info("link.up", node=identity.name, pool=identity.pool_slug, role=identity.role)
        try:
            with self._roll.called(identity.node_id, context.link_id, duty.look):
                await link.run(duty)
        finally:
            newest = self._links.get(identity.node_id) is link
            if newest:
                del self._links[identity.node_id], self._duties[identity.node_id]
        log.info("link.down", node=identity.name)
        if newest:
            await self._note_lost(identity, context.link_id)

    async def _note_lost(self, identity: NodeIdentity, link_id: UUID) -> None:
        try:
            async with asyncio.timeout(self._limits.step_timeout_s):
                await self._roll.lost(identity.node_id, link_id)
                if identity.may_control:
                    async with session_scope(self._sessions) as session:
                        await give_control_up(session, link_id)
        except (SQLAlchemyError, OSError) as error:
            # Routing does not depend on this row; the node's next link puts it right.
            log.warning("link.database_away", node=identity.name, reason=str(error)[:200])


async def _refuse(socket: LinkSocket, reason: str, message: str, *, retry: bool) -> None:
    log.info("link.refused", reason=reason, message=message)
    try:
        async with asyncio.timeout(_REFUSAL_TIMEOUT_S):
            await socket.write_control(Refuse(reason=reason, message=message, retry=retry))
            await socket.close(CLOSE_REFUSED, reason)
    except TimeoutError:
        log.info("link.refusal_unheard", reason=reason)
