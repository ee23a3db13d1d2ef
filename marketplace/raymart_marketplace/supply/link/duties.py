"""What a live link is for: a node announces replicas, a pool's controller is told placements and reports on them."""

import asyncio
import time
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.wire.link import (
    Announce,
    ArtifactAsk,
    ArtifactRefusal,
    Control,
    GoAway,
    Hardware,
    Heartbeat,
    Leave,
    Replica,
    Report,
)
from raymart_core.wire.machine import BenchmarkData, BenchmarkResult, Telemetry
from raymart_core.wire.membership import DrainAsk, PoolAsk, RotateKey
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.enrolment import LinkRefused, keep_hardware, node_for_hello
from raymart_marketplace.supply.link.context import LinkContext
from raymart_marketplace.supply.link.demand import QueueReport
from raymart_marketplace.supply.link.limits import LinkLimits
from raymart_marketplace.supply.link.machine import MachineDuty
from raymart_marketplace.supply.link.membership import MembershipDuty
from raymart_marketplace.supply.link.pool_control import NodeControl, PoolControl
from raymart_marketplace.supply.link.socket import CLOSE_REFUSED, LinkEnded, protocol_error
from raymart_marketplace.supply.link.standing import ClockSkew, StandingDuty
from raymart_marketplace.supply.link.weights import WeightsDuty
from raymart_marketplace.supply.models import NodeRole
from raymart_marketplace.supply.pool_control import ControlHeld
from raymart_marketplace.supply.presence import SKEW_STEP_MS, hold_link, keep_clock_skew
from raymart_marketplace.supply.service import revoke_node

log = structlog.get_logger()

_RECHECKS_SPARED = 30
"""A link looks for itself once in so many rounds of the roll, which marks it seen and lets it look when there is a doubt."""
_RETRY_S = 1.0
"""Pause after the database did not answer."""


class NodeDuty:
    """A node's side: its replicas and their load go into the directory, and it is given weights.

    One that runs its provider pool's Ray head is also told the pool's placements (`NodeControl`).
    """

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._kick = asyncio.Event()
        self._unknown_revision = False
        self._recheck = _Recheck(context)
        self._standing = StandingDuty(context)
        self._weights: WeightsDuty | None = None
        if context.weights is not None and context.wanted is not None:
            self._weights = WeightsDuty(context, context.weights, context.wanted)
        self._membership = MembershipDuty(context)
        self._control = NodeControl(context)
        self._machine = MachineDuty(context)
        self._queues = QueueReport(context)
        context.links.link_up(context.identity, context.link)

    def take(self, message: Control) -> None:
        """Apply an announcement or a heartbeat in memory, queue an ask. Raises: LinkEnded."""
        links, node_id, link = self._context.links, self._context.identity.node_id, self._context.link
        match message:
            case Heartbeat():
                self._recheck.clock.heard(message.clock_ms)
                links.heartbeat(node_id, link, message.running)
                self._queues.heartbeat(message.waiting)
                if self._recheck.due_in_s <= 0:
                    self._kick.set()
                self._control.heartbeat()
            case Announce():
                check_replicas(message.replicas, self._context.limits)
                self._recheck.hardware = message.hardware
                self._unknown_revision |= links.announce(node_id, link, message.replicas)
                self._queues.announced(message.replicas)
                self._control.announced(controls=message.controls)
                self._kick.set()
                self._machine.announced(message.hardware)
                if self._weights is not None:
                    self._weights.announced(message.cache)
            case Report():
                self._control.reported(message)
            case ArtifactAsk() | PoolAsk() | DrainAsk() | RotateKey():
                self._ask(message)
            case Telemetry() | BenchmarkResult() | BenchmarkData():
                self._machine.take(message)
            case GoAway():
                log.info("node.draining", node=link.name, reason=message.reason[:100])
                links.link_draining(node_id, link)
            case Leave():
                links.link_draining(node_id, link)
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
            tasks.create_task(self._control.run())
            tasks.create_task(self._machine.run())
            tasks.create_task(self._standing.run())
            if self._weights is not None:
                tasks.create_task(self._weights.run())

    def look(self) -> None:
        """Whether it is still welcome, still sold, still to be sent requests."""
        self._recheck.hurry()
        self._unknown_revision = True
        self._standing.look()
        self._kick.set()

    def lost(self) -> None:
        """Take the node's endpoints out of routing."""
        self._context.links.link_down(self._context.identity.node_id, self._context.link)
        self._control.lost()
        self._machine.lost()
        self._queues.lost()
        if self._weights is not None:
            self._weights.lost()

    def _ask(self, ask: ArtifactAsk | PoolAsk | DrainAsk | RotateKey) -> None:
        if isinstance(ask, PoolAsk):
            self._membership.ask(ask)
            self._kick.set()
        elif not isinstance(ask, ArtifactAsk):
            self._standing.ask(ask)
        elif self._weights is not None:
            self._weights.ask(ask)
        else:
            refusal = ArtifactRefusal(ask=ask.ask, message="this marketplace keeps no weights", retry=False)
            self._context.link.outbox.control(refusal)

    async def _look_up(self) -> None:
        """Raises: LinkEnded."""
        while True:
            self._kick.clear()
            await self._membership.answer()
            try:
                async with asyncio.timeout(self._context.limits.step_timeout_s):
                    await self._recheck.run()
                    if self._unknown_revision:
                        self._unknown_revision = False
                        await self._context.links.load(self._context.identity.node_id)
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
        self._membership = MembershipDuty(context)
        self._control = PoolControl(context, kick=self._kick.set)
        self._standing = StandingDuty(context)

    def take(self, message: Control) -> None:
        """Note a report, or look at the placements because of a heartbeat. Raises: LinkEnded."""
        match message:
            case Report():
                self._control.take(message)
            case Announce():
                self._recheck.hardware = message.hardware
            case Leave():
                self._recheck.leaving = True
            case PoolAsk():
                self._membership.ask(message)
            case Heartbeat():
                self._recheck.clock.heard(message.clock_ms)
            case RotateKey():
                self._standing.ask(message)
            case GoAway():
                pass
            case _:
                raise protocol_error(f"{type(message).__name__} from a pool controller")
        self._kick.set()

    async def run(self) -> None:
        """Recompute the placements at each heartbeat and each local change; write reports. Raises: LinkEnded, in a group."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_pool())
            tasks.create_task(self._standing.run())

    async def _keep_pool(self) -> None:
        """Raises: LinkEnded."""
        while True:
            await _wait(self._kick, timeout_s=self._recheck.due_in_s)
            self._kick.clear()
            try:
                async with asyncio.timeout(self._context.limits.step_timeout_s):
                    await self._step()
                    await self._recheck.run()
                # Last: one that controls nothing must not say where the pool's head is.
                await self._membership.answer()
            except (SQLAlchemyError, OSError) as error:
                log.warning("link.database_away", node=self._context.link.name, reason=str(error)[:200])
                self._kick.set()
                await asyncio.sleep(_RETRY_S)

    def look(self) -> None:
        """Whether it is still welcome."""
        self._recheck.hurry()
        self._kick.set()

    def lost(self) -> None:
        """Stop listening for local changes."""
        self._control.lost()

    async def _step(self) -> None:
        """Raises: LinkEnded also while another controls the pool; this one asks again and takes over in time."""
        try:
            await self._control.step()
        except ControlHeld as held:
            raise LinkEnded("duplicate", str(held), close_code=CLOSE_REFUSED, retry=True) from None


class _Recheck:
    """Whether the node is still welcome, by itself: when the roll does not vouch for it, rarely otherwise, and when it leaves."""

    def __init__(self, context: LinkContext) -> None:
        self.hardware: Hardware | None
        """What the node announced last."""
        self.leaving = False
        self.clock = ClockSkew()
        self._context = context
        self._due_at = time.monotonic()
        # A node that comes back says what is known of it; nothing is written then.
        self._kept = self.hardware = context.identity.hardware
        self._linked = False
        # A controller computes nothing that is sold.
        self._qualified = context.benchmarks is None or context.identity.role is not NodeRole.NODE
        self._kept_skew_ms = context.identity.clock_skew_ms
        self._hurries = 0

    def hurry(self) -> None:
        """Let the next run not wait for its time."""
        self._hurries += 1
        self._due_at = 0.0

    @property
    def due_in_s(self) -> float:
        if self.leaving or self.hardware != self._kept or self._skew_moved:
            return 0.0
        return max(0.0, self._due_at - time.monotonic())

    async def run(self) -> None:
        if self.due_in_s > 0:
            return
        # All may change while the database is waited for; what was done is what was known at the start. Somebody who
        # says `hurry` meanwhile is heard by the next run.
        identity, hardware, leaving = self._context.identity, self.hardware, self.leaving
        hurries = self._hurries
        if not self._linked and not leaving and hardware == self._kept:
            self._linked = await self._context.roll.up(
                identity.node_id, self._context.link_id, qualified=self._qualified
            )
            # One that was revoked since its handshake is refused below.
            if self._linked and hurries == self._hurries and not self._skew_moved:
                self._rest()
                return
        try:
            async with session_scope(self._context.sessions) as session:
                if leaving:
                    await revoke_node(session, node_id=identity.node_id)
                else:
                    await node_for_hello(session, identity.node_id, identity.role)
                    if hardware is not None and hardware != self._kept:
                        await keep_hardware(session, identity.node_id, hardware)
                    await hold_link(
                        session,
                        identity.node_id,
                        self._context.link_id,
                        first=not self._linked,
                        qualified=self._qualified,
                    )
                    await self._keep_skew(session)
        except LinkRefused as refusal:
            raise LinkEnded(
                refusal.reason, refusal.message, close_code=CLOSE_REFUSED, retry=refusal.retry
            ) from None
        if leaving:
            raise LinkEnded(
                "left", "this node's key is revoked, as it asked", close_code=CLOSE_REFUSED, retry=False
            )
        self._linked = True
        self._kept = hardware
        if hurries == self._hurries:
            self._rest()

    @property
    def _skew_moved(self) -> bool:
        skew_ms, kept_ms = self.clock.ms, self._kept_skew_ms
        if skew_ms is None or kept_ms is None:
            return skew_ms is not None
        ahead_ms = skew_ms - kept_ms
        return ahead_ms >= SKEW_STEP_MS or (ahead_ms <= -SKEW_STEP_MS and self.clock.is_sure)

    async def _keep_skew(self, session: AsyncSession) -> None:
        skew_ms = self.clock.ms
        if skew_ms is not None and self._skew_moved:
            await keep_clock_skew(session, self._context.identity.node_id, skew_ms)
            self._kept_skew_ms = skew_ms

    def _rest(self) -> None:
        self._due_at = time.monotonic() + _RECHECKS_SPARED * self._context.limits.recheck_s


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
