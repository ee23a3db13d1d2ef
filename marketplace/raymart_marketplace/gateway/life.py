"""What is known of one request while it runs, and the rows and events that follow from it."""

import asyncio
from typing import Literal
from uuid import UUID

from raymart_core import clock
from raymart_core.errors import DomainError
from raymart_core.ids import Prefix, show
from raymart_core.money import ZERO, Money
from raymart_core.ports import AttemptRecord, FinishedRequest, Quantities, Rater, UsageEntry
from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import GenerateRequest, Sampling, encode
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.attempt import Attempt, AttemptFailed
from raymart_marketplace.gateway.deadline import Patience
from raymart_marketplace.gateway.events import Broken, Finished, Started
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.meter import Meter
from raymart_marketplace.gateway.quote import completion_bound, needs_of, prompt_bound
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.supply.live import Lease, LiveEndpoint

GATEWAY_LOST = "gateway_lost"
"""Error code of a request whose gateway died; only its checkpoint tells of it."""


class RequestLife:
    """One request from arrival to record. Mutable, owned by one `Inference.run`."""

    def __init__(
        self,
        request_id: UUID,
        caller: Caller,
        request: ChatRequest,
        *,
        surface: Surface,
        streamed: bool,
        limits: InferenceLimits,
        rater: Rater,
    ) -> None:
        self.id = request_id
        self.caller = caller
        self.request = request
        self.streamed = streamed
        self.needs = needs_of(request)
        self.patience = Patience(total_s=limits.request_deadline_s)
        self.attempt: Attempt | None = None
        """The attempt that runs or that served."""
        self.final: FinishedRequest | None = None
        """What is to be recorded, once it is decided; it never changes after."""
        self.lease_id: UUID | None = None
        """The lease that pays; none for what is free."""
        self.owing = False
        """Whether a hold is out that nobody has yet been told to capture or to void."""
        self._surface = surface
        self._limits = limits
        self._rater = rater
        self._created_at = clock.now()
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._loop.time()
        self._attempts: list[AttemptRecord] = []

    @property
    def public_id(self) -> str:
        """The request's id as people and providers see it."""
        return show(Prefix.REQUEST, self.id)

    # Attempts

    def new_attempt(self, endpoint: LiveEndpoint, lease: Lease) -> Attempt:
        """Make the next try, on `endpoint`."""
        meter = Meter(
            tokens_prompt_max=prompt_bound(endpoint, self.needs),
            tokens_completion_max=completion_bound(endpoint, self.needs),
        )
        self.attempt = Attempt(endpoint, lease, meter=meter, patience=self.patience, limits=self._limits)
        return self.attempt

    def body_for(self, endpoint: LiveEndpoint) -> bytes:
        """The generation as the replica is asked for it."""
        asked = self.request.sampling
        sampling = Sampling(
            max_tokens=completion_bound(endpoint, self.needs),
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.engine_seed,
            stop=asked.stop,
            top_logprobs=asked.top_logprobs,
        )
        return encode(GenerateRequest(sampling=sampling, messages=self.request.messages))

    def attempt_failed(self, failure: AttemptFailed) -> None:
        """Note that the running attempt is over and handed nothing to the customer."""
        assert self.attempt is not None
        record = self.attempt.record("failed", fault=failure.fault, reason=failure.reason, tokens_delivered=0)
        self._attempts.append(record)
        self.attempt = None

    # Rows

    def complete(self) -> FinishedRequest:
        """Decide on the good end."""
        assert self.attempt is not None
        assert self.attempt.finish_reason is not None
        self._close_attempt("delivered", fault=Fault.NONE, reason="")
        return self._decide("completed", finish_reason=self.attempt.finish_reason, error_code=None)

    def fail(self, error_code: str, *, fault: Fault, reason: str) -> FinishedRequest:
        """Decide that the request ends in an error; what was delivered is billed."""
        finish_reason = None
        if self.attempt is not None:
            self._close_attempt("failed", fault=fault, reason=reason)
            finish_reason = FinishReason.ERROR
        return self._decide("failed", finish_reason=finish_reason, error_code=error_code)

    def cancel(self) -> FinishedRequest:
        """Decide that the client left; what was delivered is billed."""
        finish_reason = None
        if self.attempt is not None:
            self._close_attempt("cancelled", fault=Fault.CUSTOMER, reason="the client left")
            finish_reason = FinishReason.ABORT
        return self._decide("cancelled", finish_reason=finish_reason, error_code=None)

    def if_lost(self) -> FinishedRequest | None:
        """What is to be recorded if this process ends now: a failure of the platform, billed for what was delivered."""
        if self.final is not None or self.attempt is None:
            return None
        tokens = self.attempt.meter.tokens_completion
        running = self.attempt.record(
            "failed", fault=Fault.PLATFORM, reason="the gateway was lost", tokens_delivered=tokens
        )
        return self._row(
            "failed",
            finish_reason=FinishReason.ERROR,
            error_code=GATEWAY_LOST,
            attempts=(*self._attempts, running),
        )

    @property
    def tokens_delivered(self) -> int:
        """How many tokens the customer was handed so far."""
        return 0 if self.attempt is None else self.attempt.meter.tokens_completion

    # Events

    def started(self) -> Started:
        """What the caller is told at the first token."""
        assert self.attempt is not None
        endpoint = self.attempt.endpoint
        return Started(
            request_id=self.id,
            created_at=self._created_at,
            model=endpoint.model_slug,
            provider=endpoint.provider_slug,
            revision=endpoint.revision_digest,
            attempts=len(self._attempts) + 1,
        )

    def finished(self) -> Finished:
        """What the caller is told at the good end."""
        assert self.attempt is not None
        assert self.final is not None
        assert self.final.finish_reason is not None
        tokens_prompt, tokens_completion, cost = self._bill()
        return Finished(
            finish_reason=self.final.finish_reason,
            tokens_prompt=tokens_prompt,
            tokens_completion=tokens_completion,
            cost=cost,
            provider=self.attempt.endpoint.provider_slug,
            attempts=len(self._attempts),
        )

    def broken(self, error: DomainError, *, billed: bool) -> Broken:
        """What the caller is told at the bad end; nothing costs unless `billed`."""
        assert self.attempt is not None
        tokens_prompt, tokens_completion, cost = self._bill() if billed else (0, 0, ZERO)
        return Broken(
            error=error,
            tokens_prompt=tokens_prompt,
            tokens_completion=tokens_completion,
            cost=cost,
            provider=self.attempt.endpoint.provider_slug,
            attempts=len(self._attempts),
        )

    def _bill(self) -> tuple[int, int, Money]:
        usage = self.final.usage if self.final is not None else None
        if usage is None:
            return 0, 0, ZERO
        quantities = usage.quantities
        tokens_prompt = quantities.token_prompt + quantities.token_cached
        return tokens_prompt, quantities.token_completion, usage.customer_amount

    def _close_attempt(
        self, outcome: Literal["delivered", "failed", "cancelled"], *, fault: Fault, reason: str
    ) -> None:
        assert self.attempt is not None
        tokens = self.attempt.meter.tokens_completion
        record = self.attempt.record(outcome, fault=fault, reason=reason, tokens_delivered=tokens)
        self._attempts.append(record)

    def _decide(
        self,
        state: Literal["completed", "failed", "cancelled"],
        *,
        finish_reason: FinishReason | None,
        error_code: str | None,
    ) -> FinishedRequest:
        assert self.final is None, "a request ends once"
        self.final = self._row(
            state, finish_reason=finish_reason, error_code=error_code, attempts=tuple(self._attempts)
        )
        return self.final

    def _row(
        self,
        state: Literal["completed", "failed", "cancelled"],
        *,
        finish_reason: FinishReason | None,
        error_code: str | None,
        attempts: tuple[AttemptRecord, ...],
    ) -> FinishedRequest:
        caller = self.caller
        return FinishedRequest(
            id=self.id,
            organization_id=caller.organization_id,
            project_id=caller.project_id,
            api_key_id=caller.api_key_id,
            user_id=caller.user_id,
            surface=self._surface.value,
            model_asked=self.request.model,
            model_served=self.attempt.endpoint.model_slug if self.attempt is not None else self.request.model,
            state=state,
            finish_reason=finish_reason,
            error_code=error_code,
            streamed=self.streamed,
            created_at=self._created_at,
            first_token_ms=self._first_token_ms(),
            duration_ms=self._age_ms(),
            attempts=attempts,
            usage=self._usage(),
            lease_id=self.lease_id,
        )

    def _usage(self) -> UsageEntry | None:
        """What is billed: every token handed out, and the prompt if there was any."""
        if self.attempt is None or not self.attempt.meter.tokens_completion:
            return None
        endpoint, meter = self.attempt.endpoint, self.attempt.meter
        quantities = Quantities(
            token_prompt=meter.tokens_prompt, token_completion=meter.tokens_completion, request=1
        )
        # The endpoint is the snapshot of admission: a price that changed meanwhile is for the next request.
        charge = self._rater.rate(quantities, endpoint.prices, fee_basis_points=endpoint.fee_basis_points)
        return UsageEntry(
            provider_id=endpoint.provider_id,
            endpoint_id=endpoint.id,
            offer_id=endpoint.offer_id,
            revision_id=endpoint.revision_id,
            quantities=quantities,
            prices=endpoint.prices,
            customer_amount=charge.customer,
            provider_amount=charge.provider,
            fee_amount=charge.fee,
            exact=meter.exact,
        )

    def _first_token_ms(self) -> int | None:
        at = None if self.attempt is None else self.attempt.first_token_at
        return None if at is None else int((at - self._begun_at) * 1000)

    def _age_ms(self) -> int:
        return int((self._loop.time() - self._begun_at) * 1000)
