"""`models`: other models, tried in the customer's order when the first has nobody who serves it. Only when asked for."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from uuid import UUID

import structlog

from raymart_core.errors import DomainError, NoEndpoint, UpstreamFailed
from raymart_core.ids import new_id
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.decision_trace import DecisionTrace
from raymart_marketplace.gateway.events import InferenceEvent
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.metering.models import Surface

log = structlog.get_logger(__name__)


async def served_by_first(
    inference: Inference,
    caller: Caller,
    requests: Sequence[ChatRequest],
    *,
    surface: Surface,
    streamed: bool,
    request_id: UUID,
    deadline_s: float | None = None,
    trace: DecisionTrace | None = None,
) -> AsyncGenerator[InferenceEvent, None]:
    """The events of the first of `requests` whose model answers; each that is tried is a request with a row of its own.

    The next is tried only when nobody serves the one before or all who did failed: what is wrong with the request, the
    key or the balance is so for the next model too. After a first token none is tried, and none past the deadline.
    Raises: what `Inference.run` raises for the first; NoEndpoint or UpstreamFailed with a reason for each tried.
    """
    loop = asyncio.get_running_loop()
    # One deadline for all of them.
    late_at = loop.time() + inference.limits.within(deadline_s).request_deadline_s
    failures: list[tuple[str, DomainError]] = []
    for request in requests:
        run_id = new_id() if failures else request_id
        run = inference.run(
            caller,
            request,
            surface=surface,
            streamed=streamed,
            request_id=run_id,
            deadline_s=late_at - loop.time(),
            trace=trace,
        )
        async with aclosing(run) as events:
            try:
                started = await anext(events)
            except DomainError as error:
                if not failures and not isinstance(error, NoEndpoint | UpstreamFailed):
                    raise
                failures.append((request.model, error))
                log.info("request.fell_back", model=request.reference.slug, code=error.code)
                if loop.time() >= late_at:
                    break
                continue
            yield started
            async for event in events:
                yield event
            return
    raise _none(failures)


def _none(failures: Sequence[tuple[str, DomainError]]) -> DomainError:
    """Why none of the models answered."""
    if len(failures) == 1:
        return failures[0][1]
    reasons = [f"{model}: {error.message}" for model, error in failures]
    message = f"none of {len(failures)} models could answer; {'; '.join(reasons)}"
    if any(isinstance(error, UpstreamFailed) for _, error in failures):
        return UpstreamFailed(message)
    return NoEndpoint(message, reasons=reasons)
