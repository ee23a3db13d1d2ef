"""One try of a request on one endpoint: from the lease to the last event, with every failure classed by whose it is.

What the events are, and what they count, is for the subclasses: text in `attempt.py`, pictures in `images/attempt.py`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from typing import ClassVar, Generic, Literal, TypeVar

import msgspec
import structlog

from raymart_core import clock
from raymart_core.errors import DeadlineExceeded, DomainError, InvalidRequest, RaymartError, UpstreamFailed
from raymart_core.ids import new_id
from raymart_core.ports import AttemptRecord
from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import ErrorBody, decode_error_body
from raymart_marketplace.gateway.deadline import Patience, TimedOut
from raymart_marketplace.gateway.event_lines import EventLines
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.supply.live import Lease, LiveEndpoint, Served
from raymart_marketplace.supply.upstream import UpstreamBroken, UpstreamResponse

log = structlog.get_logger(__name__)

REFUSAL_BYTES_MAX = 64 * 1024
DRAIN_S = 0.25
"""How long a finished stream may take to end, so that its connection can be used again."""
CLOSE_S = 1.0
"""How long telling the replica to stop may take."""

EventT_co = TypeVar("EventT_co", covariant=True)


class AttemptFailed(RaymartError):
    """The attempt is over without a good end."""

    def __init__(
        self,
        reason: str,
        *,
        fault: Fault,
        error: DomainError,
        retry: bool,
        blame: bool,
        is_late: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        """For operators; stored and logged, so never in the provider's words: those may quote the prompt."""
        self.fault = fault
        self.error = error
        """What the customer is told if this ends the request."""
        self.retry = retry
        """Whether another endpoint may do better."""
        self.blame = blame
        """Whether the endpoint should be left alone for a while."""
        self.is_late = is_late
        """Whether it was only too slow; then it may still be at work."""


class ReplicaAttempt(Generic[EventT_co]):
    """A request on one endpoint. Send it, take its events, `close` it whatever happened."""

    awaited: ClassVar[str] = "token"
    """What an endpoint that is late has not sent."""

    def __init__(
        self,
        endpoint: LiveEndpoint,
        lease: Lease,
        *,
        lines: EventLines[EventT_co],
        patience: Patience,
        limits: InferenceLimits,
    ) -> None:
        self.endpoint = endpoint
        self.finish_reason: FinishReason | None = None
        """Set when the stream has ended well."""
        self.started_at = clock.now()
        self._id = new_id()
        self._limits = limits
        self.patience = patience
        """Bounds its waits. The request's own, but for an attempt that runs beside another."""
        self._lease = lease
        lease.__enter__()
        self._is_counted = True
        self._lines = lines
        self._events: deque[EventT_co] = deque()
        self._response: UpstreamResponse | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._loop = asyncio.get_running_loop()
        self.began_at = self._loop.time()
        """On the loop's clock, which is the monotonic one."""
        self.first_token_at: float | None = None
        """When its first step came, on the loop's clock; None also where steps were collected on the way."""
        self._is_delivering = False

    async def close(self) -> None:
        """Give the endpoint's slot back and, unless the stream has ended, make the replica stop. Safe to call twice."""
        self._count_off()
        response, self._response = self._response, None
        if response is None:
            return
        if self.finish_reason is not None and (response.has_ended or await self._drained()):
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await response.aclose()
        except (TimeoutError, UpstreamBroken) as error:
            log.warning("attempt.close_failed", endpoint_id=str(self.endpoint.id), reason=str(error))

    def record(
        self,
        outcome: Literal["delivered", "failed", "cancelled"],
        *,
        fault: Fault,
        reason: str,
        tokens_delivered: int,
    ) -> AttemptRecord:
        """What is kept of the attempt."""
        return AttemptRecord(
            id=self._id,
            endpoint_id=self.endpoint.id,
            provider_id=self.endpoint.provider_id,
            node_id=self.endpoint.node_id,
            outcome=outcome,
            fault=fault,
            reason=reason[:200],
            tokens_delivered=tokens_delivered,
            started_at=self.started_at,
            first_token_ms=None if self.first_token_at is None else self._ms_to(self.first_token_at),
            duration_ms=self._ms_to(self._loop.time()),
        )

    @property
    def tokens_made(self) -> int:
        """How many tokens it has generated; none of what makes no text."""
        return 0

    def served(self) -> Served:
        """How it answered. Call at the good end."""
        first = self.first_token_at
        return Served(
            first_token_s=None if first is None else first - self.began_at,
            duration_s=self._loop.time() - self.began_at,
            tokens=self.tokens_made,
        )

    async def _post(self, path: str, body: bytes, *, request_id: str) -> None:
        """Send the request. Raises: AttemptFailed when it is refused, UpstreamBroken, TimedOut, DeadlineExceeded."""
        post = partial(
            self._lease.upstream.post,
            path,
            body,
            request_id=request_id,
            deadline_ms=int(self.patience.left_s() * 1000),
        )
        self._response = await self.patience.wait(post, limit_s=self._limit_s())
        self._chunks = self._response.chunks()
        if self._response.status != 200:
            raise self._refusal(self._response.status, await self._refusal_body())

    async def _next_event(self) -> EventT_co:
        """The next event, whenever it comes. Raises: UpstreamBroken, TimedOut, DeadlineExceeded."""
        assert self._chunks is not None
        while not self._events:
            try:
                chunk = await self.patience.wait(self._chunks.__anext__, limit_s=self._limit_s())
            except StopAsyncIteration:
                raise UpstreamBroken("the stream ended without a finish", fault=Fault.PROVIDER) from None
            self._events.extend(self._lines.feed(chunk))
        return self._events.popleft()

    def _stepped(self, *, timed: bool = True) -> None:
        """Note that the endpoint has begun to deliver; unless `timed` that tells nothing of when."""
        self._is_delivering = True
        if timed:
            self.first_token_at = self._loop.time()

    def _ended(self, reason: FinishReason) -> None:
        """Note the good end, and give the slot back."""
        self.finish_reason = reason
        self._count_off()

    def _count_off(self) -> None:
        """Give the slot back; once."""
        if self._is_counted:
            self._is_counted = False
            self._lease.__exit__(None, None, None)

    def _failed(self, error: UpstreamBroken | TimedOut | DeadlineExceeded) -> AttemptFailed:
        """What `error` means for the request, and whose fault it is."""
        if isinstance(error, DeadlineExceeded):
            # Nobody broke a promise: the customer asked for more than fits into the time.
            return AttemptFailed("deadline", fault=Fault.NONE, error=error, retry=False, blame=False)
        if isinstance(error, TimedOut):
            reason, fault = self._lateness(), Fault.PROVIDER
        else:
            reason, fault = error.reason, error.fault
        return AttemptFailed(
            reason,
            fault=fault,
            error=self._shown(reason),
            retry=True,
            blame=fault is not Fault.PLATFORM,
            is_late=isinstance(error, TimedOut),
        )

    async def _drained(self) -> bool:
        """Wait a moment for the end of a body whose last event is read; it mostly has arrived by now."""
        assert self._chunks is not None
        try:
            await self.patience.wait(self._chunks.__anext__, limit_s=DRAIN_S)
        except StopAsyncIteration:
            return True
        except (TimedOut, DeadlineExceeded, UpstreamBroken):
            pass
        return False

    async def _refusal_body(self) -> bytes:
        assert self._chunks is not None
        body = b""
        while len(body) <= REFUSAL_BYTES_MAX:
            try:
                body += await self.patience.wait(self._chunks.__anext__, limit_s=self._limit_s())
            except StopAsyncIteration:
                break
        return body

    def _refusal(self, status: int, body: bytes) -> AttemptFailed:
        try:
            said = decode_error_body(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            said = ErrorBody(message="no reason given", fault=Fault.PROVIDER)
        if status == 400 and said.fault is Fault.CUSTOMER:
            param = _printable(said.param)[:64] if said.param else None
            # The customer alone is told more.
            error = InvalidRequest(_printable(said.message), param=param)
            reason = "the replica finds the request malformed"
            return AttemptFailed(reason, fault=Fault.CUSTOMER, error=error, retry=False, blame=False)
        return AttemptFailed(
            f"refused with {status}",
            fault=Fault.PROVIDER,
            error=self._shown(f"refused with {status}"),
            retry=True,
            # Busy or draining is honest; an endpoint that says so is asked again when it has a slot.
            blame=status != 503,
        )

    def _lateness(self) -> str:
        if not self._is_delivering:
            return f"no {self.awaited} within {self._limits.first_token_timeout_s:g} s"
        return f"stalled for {self._limits.stall_timeout_s:g} s"

    def _shown(self, reason: str) -> UpstreamFailed:
        return UpstreamFailed(f"the endpoint of {self.endpoint.provider_slug} failed: {reason}")

    def _limit_s(self) -> float:
        if self._is_delivering:
            return self._limits.stall_timeout_s
        # One budget for connection, prompt and first step together.
        left_s = self._limits.first_token_timeout_s - (self._loop.time() - self.began_at)
        return max(0.0, left_s)

    def _ms_to(self, moment: float) -> int:
        return int((moment - self.began_at) * 1000)


def _printable(text: str) -> str:
    """A provider's words, fit to show: one line of at most 300 characters."""
    return "".join(character if character.isprintable() else " " for character in text[:300])
