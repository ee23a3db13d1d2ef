"""A pool's placements over one link: they go out at each change, and reports on them come in.

The link is a pool controller's own, or that of a machine which runs its provider pool's Ray head (`NodeControl`).
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.wire.link import FRAME_BYTES_MAX, Desired, Placement, Report, encode
from raymart_core.wire.membership import PoolRefusal
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.link.context import LinkContext
from raymart_marketplace.supply.link.demand import DemandPush
from raymart_marketplace.supply.link.socket import CLOSE_REFUSED, LinkEnded, protocol_error
from raymart_marketplace.supply.models import PoolKind
from raymart_marketplace.supply.placements import apply_report, desired
from raymart_marketplace.supply.planning.carrying_out import welcome_controller
from raymart_marketplace.supply.pool_control import RENEW_S, ControlHeld, keep_report, take_control

log = structlog.get_logger()

_RETRY_S = 1.0
"""Pause after the database did not answer."""
_REPORT_KEPT_S = 10.0
"""An unchanged report is written again after this long, so that rows changed by others are put right."""


class PoolControl:
    """What both have in common; `step` does what is due."""

    def __init__(self, context: LinkContext, *, kick: Callable[[], None]) -> None:
        """`kick` is called at each local change of what should run, and must not wait."""
        self._context = context
        self._unsubscribe = context.directory.subscribe(kick)
        self._demand = DemandPush(context, kick=kick)
        self._welcomed = False
        self._sent: tuple[Placement, ...] | None = None
        self._generation = 0
        self._report: Report | None = None
        self._applied: Report | None = None
        self._applied_at = 0.0
        self._held_at: float | None = None

    def take(self, report: Report) -> None:
        """Note a report for the next step."""
        self._report = report

    async def step(self) -> None:
        """Send the placements if they have changed, write the report if it says something new, say what waits.

        Raises: ControlHeld while another link controls the pool; LinkEnded, SQLAlchemyError, OSError.
        """
        await self._hold()
        if not self._welcomed:
            async with session_scope(self._context.sessions) as session:
                await welcome_controller(session, self._context.identity.pool_id)
            self._welcomed = True
        await self._push_desired()
        await self._apply_report()
        await self._demand.step()

    def lost(self) -> None:
        """Stop listening for local changes."""
        self._unsubscribe()
        self._demand.lost()

    async def _hold(self) -> None:
        """Raises: ControlHeld, after which everything is told anew once the pool is ours."""
        now = time.monotonic()
        if self._held_at is not None and now - self._held_at < RENEW_S:
            return
        identity = self._context.identity
        try:
            async with session_scope(self._context.sessions) as session:
                await take_control(
                    session,
                    pool_id=identity.pool_id,
                    node_id=identity.node_id,
                    link_id=self._context.link_id,
                )
        except ControlHeld:
            self._held_at = self._sent = None
            raise
        self._held_at = now

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
            pool_id = self._context.identity.pool_id
            await apply_report(session, pool_id, report)
            await keep_report(session, pool_id=pool_id, link_id=self._context.link_id, report=report)
        self._applied = report
        self._applied_at = time.monotonic()


class NodeControl:
    """Beside a node's own duty: its pool's placements, once the node says that it runs the pool's Ray head."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._kick = asyncio.Event()
        self._control: PoolControl | None = None
        self._held_by = ""

    def announced(self, *, controls: bool) -> None:
        """Begin when the node controls its pool. Raises: LinkEnded from a house pool, whose controller is another."""
        if not controls or self._control is not None:
            return
        if self._context.identity.pool_kind is not PoolKind.PROVIDER:
            raise protocol_error(
                "a machine of a house pool that claims to control it; its controller does that"
            )
        log.info("pool.controlled", pool=self._context.identity.pool_slug, node=self._context.link.name)
        self._control = PoolControl(self._context, kick=self._kick.set)
        self._kick.set()

    def reported(self, report: Report) -> None:
        """Note a report. Raises: LinkEnded from a node that controls nothing."""
        if self._control is None:
            raise protocol_error("Report from a node that does not control its pool")
        self._control.take(report)
        self._kick.set()

    def heartbeat(self) -> None:
        """Time to look at the placements."""
        if self._control is not None:
            self._kick.set()

    async def run(self) -> None:
        """A step at each heartbeat and each local change. Raises: LinkEnded."""
        while True:
            await self._kick.wait()
            self._kick.clear()
            assert self._control is not None
            try:
                async with asyncio.timeout(self._context.limits.step_timeout_s):
                    await self._control.step()
                self._held_by = ""
            except ControlHeld as held:
                # The machine serves on; its own cluster stays empty until the other one is gone.
                if held.holder != self._held_by:
                    log.warning("pool.control_held", node=self._context.link.name, reason=str(held))
                    self._context.link.outbox.control(PoolRefusal(message=str(held)[:500], retry=True))
                self._held_by = held.holder
            except (SQLAlchemyError, OSError) as error:
                log.warning("link.database_away", node=self._context.link.name, reason=str(error)[:200])
                self._kick.set()
                await asyncio.sleep(_RETRY_S)

    def lost(self) -> None:
        """Stop listening for local changes."""
        if self._control is not None:
            self._control.lost()
