"""One node's link, as far as benchmarks go: the node is measured when it is new, changed, failed before, or asked to be."""

import asyncio
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.wire.link import Hardware
from raymart_core.wire.machine import BenchmarkData, BenchmarkOrder, BenchmarkResult
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.benchmarks.desk import BenchmarkDesk
from raymart_marketplace.supply.benchmarks.examination import Answered, Examination
from raymart_marketplace.supply.benchmarks.records import begin, due, finish, hardware_digest, keep_gpus
from raymart_marketplace.supply.link.context import LinkContext

log = structlog.get_logger()

_IDLE_WAIT_S = 30.0
"""How long what still runs on the node may go on before it is measured."""
_IDLE_LOOK_S = 0.1
_RETRY_S = 1.0
"""Pause after the database did not answer, or while the node may not be measured."""
_DRAINING_S = 15.0


@dataclass(slots=True)
class _Asked:
    """The order that is out."""

    order: BenchmarkOrder
    answer: "asyncio.Future[BenchmarkResult]"
    data_bytes: int = 0
    """Behind the first frame of data, which only starts the clock."""
    data_from: float | None = None


class BenchmarkDuty:
    """Told of the node's announcements and answers by its `NodeDuty`, which runs it beside its own work."""

    def __init__(self, context: LinkContext, desk: BenchmarkDesk) -> None:
        self._context = context
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._hardware: Hardware | None = None
        self._digest = ""
        self._wake = asyncio.Event()
        self._asked: _Asked | None = None
        self._leave = desk.attend(context.identity.node_id, self._wake.set)

    def announced(self, hardware: Hardware) -> None:
        """What the node has now."""
        if hardware != self._hardware:
            self._hardware, self._digest = hardware, hardware_digest(hardware)
            self._wake.set()

    def take(self, message: BenchmarkResult | BenchmarkData) -> None:
        """An answer to the order that is out; what nobody waits for any more is let pass."""
        asked = self._asked
        if asked is None or message.order != asked.order.order:
            return
        if isinstance(message, BenchmarkResult):
            if not asked.answer.done():
                asked.answer.set_result(message)
        elif asked.data_from is None:
            asked.data_from = self._loop.time()
        else:
            asked.data_bytes += len(message.payload)

    async def run(self) -> None:
        """Measure whenever that is due, until cancelled."""
        failures, pause_s = 0, None
        while True:
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                log.debug("benchmark.due_again", node=self._context.link.name)
            self._wake.clear()
            hardware, digest = self._hardware, self._digest
            if hardware is None:
                continue
            try:
                passed = await self._measure_if_due(hardware, digest)
            except (SQLAlchemyError, OSError) as error:
                log.warning("link.database_away", node=self._context.link.name, reason=str(error)[:200])
                pause_s = _RETRY_S
                continue
            failures = 0 if passed is not False else failures + 1
            pause_s = None if passed is not False else self._desk.pause_s(failures)

    def lost(self) -> None:
        """The link is gone."""
        self._leave()

    async def _measure_if_due(self, hardware: Hardware, digest: str) -> bool | None:
        """Whether the node passed; None when it was not measured."""
        context, node_id = self._context, self._context.identity.node_id
        async with session_scope(context.sessions) as session:
            await keep_gpus(session, node_id, hardware.gpus)
            cause = await due(session, node_id, digest)
        if cause is None:
            return None
        async with self._desk.running:
            async with session_scope(context.sessions) as session:
                benchmark_id = await begin(session, node_id, cause, digest)
            if benchmark_id is None:
                self._loop.call_later(_DRAINING_S, self._wake.set)
                return None
            await context.links.load(node_id)
            await self._idle()
            log.info("benchmark.started", node=context.link.name, cause=cause.value)
            examination = Examination(ask=self._ask, prove=self._desk.prove, effort=self._desk.effort)
            findings = await examination.run(hardware)
        async with session_scope(context.sessions) as session:
            passed = await finish(session, benchmark_id, findings)
        await context.links.load(node_id)
        failed = sorted({finding.reason.value for finding in findings if finding.reason is not None})
        self._desk.outcomes.update(failed or ["passed"])
        log.info("benchmark.finished", node=context.link.name, passed=passed, reasons=failed)
        return passed

    async def _ask(self, order: BenchmarkOrder) -> Answered:
        """Implements `examination.Ask`."""
        asked = self._asked = _Asked(order, self._loop.create_future())
        began_at = self._loop.time()
        self._context.link.outbox.control(order)
        try:
            async with asyncio.timeout(order.timeout_s):
                result = await asked.answer
        except TimeoutError:
            return Answered(result=None, elapsed_s=self._loop.time() - began_at)
        finally:
            self._asked = None
        now = self._loop.time()
        # Something arrived, so some time has passed: a clock of few digits must not say none.
        data_s = max(now - asked.data_from, 1e-6) if asked.data_from is not None else 0.0
        return Answered(result=result, elapsed_s=now - began_at, data_bytes=asked.data_bytes, data_s=data_s)

    async def _idle(self) -> None:
        """Until nothing runs on the node, or long enough: what runs would be measured too."""
        ends_at = self._loop.time() + _IDLE_WAIT_S
        # Streams end in many places, and an event for this one wait would burden each of them.
        while self._context.link.streams_open and self._loop.time() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(_IDLE_LOOK_S)
