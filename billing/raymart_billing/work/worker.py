"""A worker: leases what is due, runs its handler, and says how it went."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog

from raymart_billing.connections import OUTAGE, Connection, insist
from raymart_billing.work import claims, periodic_claims
from raymart_billing.work.claims import Claim
from raymart_billing.work.context import Context, GiveUp, LeaseLost, Resources, TaskContext
from raymart_billing.work.failure import described
from raymart_billing.work.leasing import run_leased
from raymart_billing.work.periodic_claims import PeriodicClaim
from raymart_billing.work.presence import Presence
from raymart_billing.work.registry import Registry
from raymart_billing.work.task import Task
from raymart_core.errors import Unavailable
from raymart_marketplace import audit
from raymart_marketplace.audit import Act, Actor, ActorKind

log = structlog.get_logger()

DRAIN_S_MAX = 20.0
"""How long one drain leases more rows. It is part of a Celery task, and that must end."""
LOOK_S = 1.0
"""How often a drain makes sure of its lock and looks for periodics between two tasks."""
SETTLE_TIMEOUT_S = 20.0
"""How long the outcome of a run is tried to be written while PostgreSQL is away."""
HAND_BACK_TIMEOUT_S = 2.0

Settle = Callable[[Connection], Awaitable[bool]]


class Worker:
    """Runs the registry's tasks and periodics with `resources`. Any number of drains may run at once."""

    def __init__(self, resources: Resources, registry: Registry) -> None:
        self._resources = resources
        self._registry = registry
        self._presence = Presence(resources.settings.database_url)
        self._is_registered = False

    async def drain(self, first: UUID | None = None) -> int:
        """Run the row `first` if it is due, then what else is due, one after the other; returns how many ran.

        Ends when nothing is due, and after `DRAIN_S_MAX` with the run it is at. Raises: what `connections.OUTAGE` names.
        """
        clock = asyncio.get_running_loop()
        until = clock.time() + DRAIN_S_MAX
        await self._reclaim()
        # The lock must be held before a row names this worker, for anyone may take the rows of one that is gone.
        number = await self._presence.number()
        ran = int(first is not None and await self._run_task(number, first))
        look_at = clock.time()
        while clock.time() < until:
            if clock.time() >= look_at:  # Not before every row: most rows are done within milliseconds.
                number = await self._presence.number()
                while await self._run_periodic(number):
                    ran += 1
                look_at = clock.time() + LOOK_S
            if not await self._run_task(number):
                break
            ran += 1
        return ran

    async def close(self) -> None:
        """Give up the worker's lock."""
        await self._presence.end()

    async def _reclaim(self) -> None:
        async with self._resources.pool.connection() as connection:
            if not self._is_registered:
                await periodic_claims.register(connection, list(self._registry.periodics.values()))
                self._is_registered = True
            reclaimed = await claims.reclaim_lost(connection)
        if reclaimed:
            log.warning("work.reclaimed", items=reclaimed)

    async def _run_task(self, number: int, outbox_id: UUID | None = None) -> bool:
        """Lease and run a task; False when none is due."""
        async with self._resources.pool.connection() as connection:
            claim = await claims.claim(
                connection, tasks=list(self._registry.tasks), worker=number, outbox_id=outbox_id
            )
        if claim is None:
            return False
        task = self._registry.tasks[claim.task]
        try:
            settle = await self._outcome(task, claim)
        except asyncio.CancelledError:
            await self._hand_back(lambda connection: claims.hand_back(connection, claim))
            raise
        await self._settle(claim.task, settle)
        return True

    async def _outcome(self, task: Task, claim: Claim) -> Settle:
        """Run the handler; returns the statement that says how it went."""
        context = TaskContext(
            self._resources,
            run_id=claim.run_id,
            fence=claim.fence,
            outbox_id=claim.outbox_id,
            attempt=claim.attempt,
        )
        try:
            if claim.attempt > task.attempts_max:
                raise GiveUp(f"its worker died in the last of {task.attempts_max} attempts")
            with audit.acting(_act_of(task)):
                await run_leased(
                    task.handle(context, claim.subject),
                    pool=self._resources.pool,
                    renew=lambda connection: claims.renew(connection, claim),
                    timeout_s=task.timeout_s,
                )
        except LeaseLost:
            return _lost
        except Exception as error:  # noqa: BLE001 - a handler may raise anything; its row keeps it
            return _failed(task, claim, error)
        if context.is_committed:
            return _settled
        if context.is_finished:
            return _promised(task, claim)
        return lambda connection: claims.finish(connection, claim)

    async def _run_periodic(self, number: int) -> bool:
        """Lease and run a periodic; False when none is due."""
        async with self._resources.pool.connection() as connection:
            claim = await periodic_claims.claim_periodic(
                connection, names=list(self._registry.periodics), worker=number
            )
        if claim is None:
            return False
        try:
            settle = await self._periodic_outcome(claim)
        except asyncio.CancelledError:
            await self._hand_back(lambda connection: periodic_claims.hand_back_periodic(connection, claim))
            raise
        await self._settle(claim.name, settle)
        return True

    async def _periodic_outcome(self, claim: PeriodicClaim) -> Settle:
        periodic = self._registry.periodics[claim.name]
        problem: str | None = None
        try:
            await run_leased(
                periodic.handle(Context(self._resources, run_id=claim.run_id, fence=claim.fence)),
                pool=self._resources.pool,
                renew=lambda connection: periodic_claims.renew_periodic(connection, claim),
                timeout_s=periodic.timeout_s,
            )
        except LeaseLost:
            return _lost
        except Exception as error:  # noqa: BLE001 - as above
            problem = described(error)
            _log_failure(claim.name, error, is_last=False)
        return lambda connection: periodic_claims.finish_periodic(connection, claim, error=problem)

    async def _settle(self, name: str, settle: Settle) -> None:
        """Write how a run went, with patience. What cannot be written is left to be found as lost."""
        try:
            is_ours = await insist(
                self._resources.pool, settle, timeout_s=SETTLE_TIMEOUT_S, purpose="work.settle"
            )
        except Exception as error:
            # As long as this worker lives nobody takes its rows over, and nobody here remembers this one.
            await self._presence.end()
            log.exception("work.unsettled", name=name)
            if isinstance(error, Unavailable):
                return
            raise
        if not is_ours:
            log.warning("work.lease_lost", name=name)

    async def _hand_back(self, hand_back: Settle) -> None:
        try:
            async with (
                asyncio.timeout(HAND_BACK_TIMEOUT_S),
                self._resources.pool.connection() as connection,
            ):
                await hand_back(connection)
        except OUTAGE as error:
            log.warning("work.not_handed_back", error=type(error).__name__)


def _act_of(task: Task) -> Act:
    """What the marketplace does of itself because of what somebody else did. Periodics only keep house."""
    return Act(action=task.name, actor=Actor(kind=ActorKind.SYSTEM, name="worker"))


async def _lost(_: Connection) -> bool:
    return False


async def _settled(_: Connection) -> bool:
    return True


def _promised(task: Task, claim: Claim) -> Settle:
    """The handler called `finish_with`; see whether that was committed."""
    not_committed = RuntimeError("finish_with was called, but its transaction was not committed")

    async def settle(connection: Connection) -> bool:
        return await claims.is_finished(connection, claim) or await _failed(task, claim, not_committed)(
            connection
        )

    return settle


def _failed(task: Task, claim: Claim, error: Exception) -> Settle:
    is_dead = isinstance(error, GiveUp) or claim.attempt >= task.attempts_max
    _log_failure(task.name, error, is_last=is_dead)
    doubled = task.backoff_s_min * 2.0 ** min(claim.attempt - 1, 30)
    # Shortened by up to a third, so that what failed together does not come back together.
    pause_s = min(doubled, task.backoff_s_max) * random.uniform(0.67, 1.0)  # noqa: S311 - spreads load, guards nothing
    return lambda connection: claims.fail(
        connection, claim, error=described(error), pause_s=pause_s, is_dead=is_dead
    )


def _log_failure(name: str, error: Exception, *, is_last: bool) -> None:
    if isinstance(error, OUTAGE):
        log.warning("work.interrupted", name=name, error=described(error))
    elif is_last:
        log.error("work.dead", name=name, error=described(error), exc_info=error)
    else:
        log.warning("work.failed", name=name, error=described(error), exc_info=error)
