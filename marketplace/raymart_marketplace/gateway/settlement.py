"""Money and rows of a request: hold before an endpoint is touched, then capture or void on every path.

Used by everything that sells inference, whatever is made.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial

import structlog

from raymart_core.errors import DomainError, InvalidRequest, NoEndpoint, UpstreamFailed
from raymart_core.money import Money
from raymart_core.ports import FinishedRequest, HoldGate, UsageSink
from raymart_core.units import Fault
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.replica_attempt import AttemptFailed, ReplicaAttempt
from raymart_marketplace.gateway.request_life import AttemptT, Life
from raymart_marketplace.supply.live import EndpointDirectory

log = structlog.get_logger(__name__)

FAILURE_RECORD_S = 2.0
"""How long an error reply waits for its row; the row is written in any case."""


class Settlement:
    """Takes and settles what requests hold. Invariants: a hold is settled once, whoever stops waiting for it."""

    def __init__(
        self,
        *,
        directory: EndpointDirectory,
        hold_gate: HoldGate,
        usage_sink: UsageSink,
        limits: InferenceLimits,
    ) -> None:
        self._directory = directory
        self._hold_gate = hold_gate
        self._usage_sink = usage_sink
        self._limits = limits
        self._settling: set[asyncio.Task[None]] = set()

    def watch(self, life: Life[AttemptT]) -> None:
        """Bill what `life` was handed out even if this process dies. Call when the first of it goes out."""
        self._usage_sink.watch(life)

    async def drain(self, *, timeout_s: float) -> None:
        """Wait for settlements that are still under way, at most `timeout_s`; called at shutdown."""
        if self._settling:
            await asyncio.wait(tuple(self._settling), timeout=timeout_s)

    async def hold(self, life: Life[AttemptT], amount: Money) -> None:
        """Hold the most that the request can cost. Raises: InsufficientFunds, Unavailable, DeadlineExceeded."""
        life.held = amount
        if not amount:  # What is free needs no balance.
            life.owing = True
            return
        caller = life.caller
        hold = partial(
            self._hold_gate.hold,
            request_id=life.id,
            organization_id=caller.organization_id,
            project_id=caller.project_id,
            api_key_id=caller.api_key_id,
            amount=amount,
            ttl_s=self._limits.hold_ttl_s,
        )
        # The gate has its own timeout; the deadline is a backstop. Nothing stays reserved when this raises.
        life.lease_id = await life.patience.wait(hold, limit_s=self._limits.request_deadline_s)
        life.owing = True

    async def record(self, life: Life[AttemptT], final: FinishedRequest) -> None:
        """Make `final` durable. Raises: Unavailable."""
        await self._usage_sink.record(final)
        life.owing = False

    async def give_up(self, life: Life[AttemptT], error: DomainError) -> DomainError:
        """End a request that delivered nothing; returns `error` for the caller to raise."""
        settle: Coroutine[None, None, None]
        if isinstance(error, InvalidRequest):  # Malformed after all: as if it had never come.
            settle = self._hold_gate.release(request_id=life.id) if life.owing else _nothing()
        else:
            settle = self._usage_sink.record(life.fail(error.code, fault=Fault.NONE, reason=error.message))
        life.owing = False
        await asyncio.wait((self.later(settle),), timeout=FAILURE_RECORD_S)
        return error

    async def interrupted(self, life: Life[AttemptT], error: BaseException) -> None:
        """The client left, or we have a bug: stop the engine and settle, whatever else is cancelled meanwhile."""
        if not life.owing:
            return
        life.owing = False
        if life.final is not None:
            final = life.final  # It was being recorded; once more does no harm.
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            final = life.cancel()
        else:
            final = life.fail("internal_error", fault=Fault.PLATFORM, reason=type(error).__name__)
        settled = self.later(self._usage_sink.record(final))
        if life.attempt is not None:
            await life.attempt.close()
        await asyncio.wait((settled,))

    def blame(self, attempt: ReplicaAttempt[object], failure: AttemptFailed) -> None:
        """Tell the log of a failed attempt, and the directory when its endpoint is to be left alone."""
        log.info(
            "attempt.failed",
            endpoint_id=str(attempt.endpoint.id),
            provider=attempt.endpoint.provider_slug,
            fault=failure.fault.value,
            reason=failure.reason,
        )
        if failure.blame:
            self._directory.report_failure(
                attempt.endpoint.id, reason=failure.reason, began_at=attempt.began_at
            )

    def later(self, settle: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `settle` to its end, whoever stops waiting for it."""
        task = asyncio.get_running_loop().create_task(settle)
        self._settling.add(task)
        task.add_done_callback(self._settled)
        return task

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._settling.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Nothing was promised to anybody: what is not recorded is not charged, and a hold expires.
            log.error("settlement.failed", error=str(error), exc_info=error)


def exhausted(slug: str, failures: Sequence[AttemptFailed]) -> DomainError:
    """Why every attempt failed."""
    if any(failure.blame for failure in failures):
        last = failures[-1].error.message
        return UpstreamFailed(f"{len(failures)} endpoints of {slug} were tried and failed; the last: {last}")
    reasons = [failure.error.message for failure in failures] or [
        "every endpoint left while the request came in"
    ]
    return NoEndpoint(f"every endpoint of {slug} is busy; try again", reasons=reasons)


async def _nothing() -> None:
    """Settle a request that owes nothing."""
