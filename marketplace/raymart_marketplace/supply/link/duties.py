"""What a live link is for: a node announces replicas, a pool's controller is told placements and reports on them."""

import asyncio
import time
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.wire.link import (
    FRAME_BYTES_MAX,
    Announce,
    ArtifactAsk,
    ArtifactRefusal,
    Control,
    Desired,
    GoAway,
    Hardware,
    Heartbeat,
    Leave,
    Placement,
    Replica,
    Report,
    encode,
)
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.enrolment import LinkRefused, mark_seen, node_for_hello
from raymart_marketplace.supply.link.context import LinkContext
from raymart_marketplace.supply.link.limits import LinkLimits
from raymart_marketplace.supply.link.socket import CLOSE_REFUSED, LinkEnded, protocol_error
from raymart_marketplace.supply.link.weights import WeightsDuty
from raymart_marketplace.supply.placements import apply_report, desired
from raymart_marketplace.supply.service import revoke_node

log = structlog.get_logger()

_RETRY_S = 1.0
"""Pause after the database did not answer."""
_REPORT_KEPT_S = 10.0
"""An unchanged report is written again after this long, so that rows changed by others are put right."""


class NodeDuty:
    """A node's side: its replicas and their load go into the directory, and it is given weights."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._kick = asyncio.Event()
        self._unknown_revision = False
        self._recheck = _Recheck(context)
        self._weights = WeightsDuty(context, context.weights) if context.weights is not None else None
        context.directory.link_up(context.identity, context.link)

    def take(self, message: Control) -> None:
        """Apply an announcement or a heartbeat in memory, queue an ask. Raises: LinkEnded."""
        directory, node_id, link = self._context.directory, self._context.identity.node_id, self._context.link
        match message:
            case Heartbeat():
                directory.heartbeat(node_id, link, message.running)
            case Announce():
                check_replicas(message.replicas, self._context.limits)
                self._recheck.hardware = message.hardware
                self._unknown_revision |= directory.announce(node_id, link, message.replicas)
                self._kick.set()
                if self._weights is not None:
                    self._weights.announced(message.cache)
            case ArtifactAsk():
                self._ask(message)
            case GoAway():
                log.info("node.draining", node=link.name, reason=message.reason[:100])
                directory.link_draining(node_id, link)
            case Leave():
                directory.link_draining(node_id, link)
                self._recheck.leaving = True
                self._kick.set()
            case _:
                raise protocol_error(f"{type(message).__name__} from a node")

    async def run(self) -> None:
        """Look announced revisions up, and every few seconds whether the node is still welcome; give weights.

        Raises: LinkEnded, in a group.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_up())
            if self._weights is not None:
                tasks.create_task(self._weights.run())

    def lost(self) -> None:
        """Take the node's endpoints out of routing."""
        self._context.directory.link_down(self._context.identity.node_id, self._context.link)
        if self._weights is not None:
            self._weights.lost()

    def _ask(self, ask: ArtifactAsk) -> None:
        if self._weights is None:
            refusal = ArtifactRefusal(ask=ask.ask, message="this marketplace keeps no weights", retry=False)
            self._context.link.outbox.control(refusal)
        else:
            self._weights.ask(ask)

    async def _look_up(self) -> None:
        """Raises: LinkEnded."""
        while True:
            self._kick.clear()
            try:
                async with asyncio.timeout(self._context.limits.step_timeout_s):
                    await self._recheck.run()
                    if self._unknown_revision:
                        self._unknown_revision = False
                        await self._context.directory.load(self._context.identity.node_id)
            except (SQLAlchemyError, OSError) as error:
                log.warning("link.database_away", node=self._context.link.name, reason=str(error)[:200])
                self._unknown_revision = True
                await asyncio.sleep(_RETRY_S)
                continue
            await _wait(self._kick, timeout_s=self._recheck.due_in_s)


class ControllerDuty:
    """A pool controller's side: placements go out at each change, reports come in."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._kick = asyncio.Event()
        self._kick.set()
        self._recheck = _Recheck(context)
        self._unsubscribe = context.directory.subscribe(self._kick.set)
        self._sent: tuple[Placement, ...] | None = None
        self._generation = 0
        self._report: Report | None = None
        self._applied: Report | None = None
        self._applied_at = 0.0

    def take(self, message: Control) -> None:
        """Note a report, or look at the placements because of a heartbeat. Raises: LinkEnded."""
        match message:
            case Report():
                self._report = message
            case Announce():
                self._recheck.hardware = message.hardware
            case Leave():
                self._recheck.leaving = True
            case Heartbeat() | GoAway():
                pass
            case _:
                raise protocol_error(f"{type(message).__name__} from a pool controller")
        self._kick.set()

    async def run(self) -> None:
        """Recompute the placements at each heartbeat and each local change; write reports. Raises: LinkEnded."""
        while True:
            await _wait(self._kick, timeout_s=self._recheck.due_in_s)
            self._kick.clear()
            try:
                async with asyncio.timeout(self._context.limits.step_timeout_s):
                    await self._push_desired()
                    await self._apply_report()
                    await self._recheck.run()
            except (SQLAlchemyError, OSError) as error:
                log.warning("link.database_away", node=self._context.link.name, reason=str(error)[:200])
                self._kick.set()
                await asyncio.sleep(_RETRY_S)

    def lost(self) -> None:
        """Stop listening for local changes."""
        self._unsubscribe()

    async def _push_desired(self) -> None:
        async with session_scope(self._context.sessions) as session:
            placements = await desired(session, self._context.identity.pool_id)
        if placements == self._sent:
            return
        # Milliseconds, so that generations also grow over restarts of this process.
        self._generation = max(self._generation + 1, time.time_ns() // 1_000_000)
        message = Desired(generation=self._generation, placements=placements)
        if len(encode(message)) > FRAME_BYTES_MAX:
            raise LinkEnded(
                "limit",
                f"{len(placements)} placements do not fit into one message of {FRAME_BYTES_MAX} bytes; split the pool",
                close_code=CLOSE_REFUSED,
            )
        self._context.link.outbox.control(message)
        self._sent = placements
        self._applied = None
        log.info(
            "placements.sent",
            pool=self._context.identity.pool_slug,
            generation=self._generation,
            placements=len(placements),
        )

    async def _apply_report(self) -> None:
        report = self._report
        if report is None or (
            report == self._applied and time.monotonic() - self._applied_at < _REPORT_KEPT_S
        ):
            return
        async with session_scope(self._context.sessions) as session:
            await apply_report(session, self._context.identity.pool_id, report)
        self._applied = report
        self._applied_at = time.monotonic()


class _Recheck:
    """Every `recheck_s`: the node is marked seen, and a revocation ends its link. At once when the node leaves."""

    def __init__(self, context: LinkContext) -> None:
        self.hardware: Hardware | None = None
        """What the node announced last."""
        self.leaving = False
        self._context = context
        self._due_at = time.monotonic()
        self._kept: Hardware | None = None

    @property
    def due_in_s(self) -> float:
        if self.leaving or self.hardware != self._kept:
            return 0.0
        return max(0.0, self._due_at - time.monotonic())

    async def run(self) -> None:
        if self.due_in_s > 0:
            return
        # Both may change while the database is waited for; what was done is what was known at the start.
        identity, hardware, leaving = self._context.identity, self.hardware, self.leaving
        try:
            async with session_scope(self._context.sessions) as session:
                if leaving:
                    await revoke_node(session, node_id=identity.node_id)
                else:
                    await node_for_hello(session, identity.node_id, identity.role)
                    await mark_seen(session, identity.node_id, hardware=hardware)
        except LinkRefused as refusal:
            raise LinkEnded(
                refusal.reason, refusal.message, close_code=CLOSE_REFUSED, retry=refusal.retry
            ) from None
        if leaving:
            raise LinkEnded(
                "left", "this node's key is revoked, as it asked", close_code=CLOSE_REFUSED, retry=False
            )
        self._kept = hardware
        self._due_at = time.monotonic() + self._context.limits.recheck_s


def check_replicas(replicas: Sequence[Replica], limits: LinkLimits) -> None:
    """Refuse an announcement that claims more than a node may. Raises: LinkEnded."""
    if len(replicas) > limits.replicas_max:
        raise LinkEnded(
            "limit",
            f"{len(replicas)} replicas announced; {limits.replicas_max} is the most for one node",
            close_code=CLOSE_REFUSED,
        )
    if len({replica.replica_id for replica in replicas}) != len(replicas):
        raise protocol_error("two announced replicas share an id")
    for replica in replicas:
        if not 1 <= replica.capacity <= limits.capacity_max:
            raise LinkEnded(
                "limit",
                f"replica {replica.replica_id[:64]!r} claims capacity {replica.capacity}; 1..{limits.capacity_max}",
                close_code=CLOSE_REFUSED,
            )


async def _wait(event: asyncio.Event, *, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
