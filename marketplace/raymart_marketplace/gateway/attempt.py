"""One try of a chat request on one endpoint: its tokens, checked and counted."""

import structlog

from raymart_core.errors import DeadlineExceeded
from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import GENERATE_PATH, ErrorEvent, FinishEvent, ReplicaEvent, StepEvent
from raymart_marketplace.gateway.deadline import Patience, TimedOut
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.meter import Meter, replica_lines
from raymart_marketplace.gateway.replica_attempt import ReplicaAttempt
from raymart_marketplace.supply.live import Lease, LiveEndpoint
from raymart_marketplace.supply.upstream import UpstreamBroken

log = structlog.get_logger(__name__)


class Attempt(ReplicaAttempt[ReplicaEvent]):
    """A request on one endpoint. `begin` it, take its steps, `close` it whatever happened."""

    def __init__(
        self,
        endpoint: LiveEndpoint,
        lease: Lease,
        *,
        meter: Meter,
        patience: Patience,
        limits: InferenceLimits,
        whole: bool = False,
    ) -> None:
        """`whole` tells that the replica was asked to collect its steps, so that none shows when it was made."""
        super().__init__(endpoint, lease, lines=replica_lines(), patience=patience, limits=limits)
        self.meter = meter
        self._whole = whole

    @property
    def tokens_made(self) -> int:
        """What the customer was handed."""
        return self.meter.tokens_completion

    async def begin(self, body: bytes, *, request_id: str) -> StepEvent | None:
        """Send the request and return its first step; None when it ended well without one. Raises: AttemptFailed."""
        try:
            await self._post(GENERATE_PATH, body, request_id=request_id)
            self.meter.prompt(await self._next_event())
        except (UpstreamBroken, TimedOut, DeadlineExceeded) as error:
            raise self._failed(error) from None
        return await self.next_step()

    async def next_step(self) -> StepEvent | None:
        """The next step, checked and counted; None after the last. Raises: AttemptFailed, also for a false count."""
        if self.finish_reason is not None:
            return None
        try:
            event = await self._next_event()
            if isinstance(event, StepEvent):
                self.meter.step(event)
                if not self._is_delivering:
                    self._stepped(timed=not self._whole)
                return event
            self._end(event)
        except (UpstreamBroken, TimedOut, DeadlineExceeded) as error:
            raise self._failed(error) from None
        return None

    def _end(self, event: ReplicaEvent) -> None:
        if isinstance(event, ErrorEvent):
            # Whatever fault the replica names: a stream that fails after it began is never the customer's doing. Its
            # words may quote the prompt, and reasons are logged and stored.
            raise UpstreamBroken("the replica reports an error", fault=Fault.PROVIDER)
        if not isinstance(event, FinishEvent):
            raise UpstreamBroken("the replica sent the prompt twice", fault=Fault.PROVIDER)
        self.meter.finish(event, revision=self.endpoint.revision_digest)
        if event.finish not in {FinishReason.STOP, FinishReason.LENGTH}:
            raise UpstreamBroken(f"the replica gave up: {event.finish.value}", fault=Fault.PROVIDER)
        begun = self.meter.begun
        # What an engine takes up is part of its prompt.
        counted = (
            self.meter.tokens_prompt + (0 if begun is None else begun.tokens),
            self.meter.tokens_completion,
        )
        claimed = (event.usage.prompt, event.usage.completion)
        if claimed != counted:
            log.warning("usage.mismatch", endpoint_id=str(self.endpoint.id), counted=counted, claimed=claimed)
        self._ended(event.finish)
