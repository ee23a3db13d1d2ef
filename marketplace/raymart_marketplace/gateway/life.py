"""What is known of one chat request while it runs, and the rows and events that follow from it."""

import secrets
from collections.abc import Awaitable, Sequence
from uuid import UUID

import msgspec

from raymart_core.errors import DomainError
from raymart_core.money import ZERO, Money
from raymart_core.ports import FinishedRequest, Quantities, Rater, UsageEntry
from raymart_core.units import FinishReason
from raymart_core.wire.replica import GenerateRequest, Sampling, StepEvent, encode
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.attempt import Attempt
from raymart_marketplace.gateway.cache_salts import CacheSalts
from raymart_marketplace.gateway.deadline import Patience
from raymart_marketplace.gateway.events import Broken, Finished, Resumed, Started
from raymart_marketplace.gateway.first_token_limit import limits_at
from raymart_marketplace.gateway.hedge import Hedge
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.meter import Begun, Meter
from raymart_marketplace.gateway.quote import completion_bound, needs_of, prompt_bound, tokens_expected
from raymart_marketplace.gateway.replica_attempt import AttemptFailed
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.gateway.request_life import Life
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.routing.route import Offered
from raymart_marketplace.supply.live import Lease, LiveEndpoint

STEPWISE_ONE_IN = 32
"""Of as many answers in one piece, one comes step by step all the same, and every one of an endpoint whose figures are
unknown: only steps show when the first token comes, and there are endpoints whose customers never stream."""


class RequestLife(Life[Attempt]):
    """One chat request from arrival to record. Mutable, owned by one `Inference.run`."""

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
        salts: CacheSalts,
    ) -> None:
        super().__init__(
            request_id,
            caller,
            model=request.model,
            surface=surface,
            streamed=streamed,
            limits=limits,
            rater=rater,
        )
        self.request = request
        self.needs = msgspec.structs.replace(needs_of(request), organization_id=caller.organization_id)
        if request.routing.hedge and limits.hedging:
            self.hedge = Hedge.NOT_NEEDED
        self.resumed: list[Resumed] = []
        """Where the answer was taken up in its middle."""
        self._salts = salts
        self._lost: list[Attempt] = []
        self._seed = request.sampling.engine_seed

    def new_attempt(self, endpoint: LiveEndpoint, lease: Lease, *, spare: Offered | None = None) -> Attempt:
        """Make the next try, on `endpoint`; `spare` is where the request would go next."""
        self.attempt = self._attempt_at(endpoint, lease, spare, self.patience)
        return self.attempt

    def rival(self, endpoint: LiveEndpoint, lease: Lease, *, spare: Offered | None) -> Attempt:
        """Make another try beside the running one, which stays `attempt`."""
        return self._attempt_at(endpoint, lease, spare, self.patience.beside())

    def _attempt_at(
        self, endpoint: LiveEndpoint, lease: Lease, spare: Offered | None, patience: Patience
    ) -> Attempt:
        tokens_prompt_max = self.needs.tokens_prompt_max
        meter = Meter(
            tokens_prompt_max=prompt_bound(endpoint, self.needs),
            tokens_completion_max=self.tokens_left(endpoint),
            tools=bool(self.request.options.tools),
            begun=self._begun(),
        )
        limits = limits_at(endpoint, spare, tokens_prompt_max=tokens_prompt_max, limits=self._limits)
        return Attempt(
            endpoint,
            lease,
            meter=meter,
            patience=patience,
            limits=limits,
            whole=self._is_collected(endpoint),
        )

    def body_for(self, endpoint: LiveEndpoint) -> bytes:
        """The generation as the replica is asked for it."""
        asked = self.request.sampling
        sampling = Sampling(
            max_tokens=self.tokens_left(endpoint),
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=self._seed,
            stop=asked.stop,
            top_logprobs=asked.top_logprobs,
            ignore_eos=asked.ignore_eos,
        )
        salt = self._salts.salt(organization_id=self.caller.organization_id, node_id=endpoint.node_id)
        options = msgspec.structs.replace(self.request.options, cache_salt=salt)
        return encode(
            GenerateRequest(
                sampling=sampling,
                messages=self.request.messages or None,
                prompt=self.request.prompt,
                prompt_ids=self.request.prompt_ids,
                options=options,
                resume_ids=tuple(token for attempt in self._lost for token in attempt.meter.ids)
                if self._lost
                else (),
                whole=self._is_collected(endpoint),
            )
        )

    def _is_collected(self, endpoint: LiveEndpoint) -> bool:
        """Whether `endpoint` is asked to collect its steps."""
        if self.streamed or endpoint.first_token_ms is None or self.hedge is not Hedge.OFF:
            return False  # Two that are asked race for the first step, which must show.
        return self.id.int % STEPWISE_ONE_IN != 0

    async def first_steps(self, beginning: Awaitable[StepEvent | None]) -> list[StepEvent]:
        """The first step, which `beginning` waits for; all of them when nothing is streamed. Raises: AttemptFailed."""
        step = await beginning
        assert self.attempt is not None
        steps = []
        while step is not None:
            steps.append(step)
            if self.streamed:
                break
            step = await self.attempt.next_step()
        return steps

    # An answer in parts: each endpoint but the last broke off, and the next went on where it did.

    def lose(self, failure: AttemptFailed) -> None:
        """Note that the running attempt broke off; what it delivered stays delivered."""
        assert self.attempt is not None
        self._close_attempt("failed", fault=failure.fault, reason=failure.reason)
        self._lost.append(self.attempt)
        self.attempt = None

    def resume(self) -> Resumed:
        """Note that the running attempt goes on, and say so."""
        assert self.attempt is not None
        greedy = not self.request.sampling.temperature
        resumed = Resumed(
            position=self.position,
            provider=self.attempt.endpoint.provider_slug,
            seed=None if greedy else self._seed,
        )
        self.resumed.append(resumed)
        return resumed

    def draw_seed(self) -> None:
        """Have a seed to name for what is sampled from here on, if the customer gave none.

        Not from the start: with a seed engines neither reuse what they have cached of a prompt nor sample in batches.
        """
        if self._seed is None and self.request.sampling.temperature:
            self._seed = secrets.randbits(32)

    def tokens_left(self, endpoint: LiveEndpoint) -> int:
        """Most completion tokens that the request may still get, there; where it began, its context was a limit too."""
        if not self._lost:
            return completion_bound(endpoint, self.needs)
        began = self._lost[0]
        room = began.endpoint.context_length - began.meter.tokens_prompt
        most = min(room, *(completion_bound(one, self.needs) for one in (began.endpoint, endpoint)))
        return most - self.position

    @property
    def is_whole(self) -> bool:
        """Whether the last attempt that broke off had delivered all there was."""
        last = self._lost[-1]
        return last.meter.ends is not None or self.tokens_left(last.endpoint) <= 0

    def _begun(self) -> Begun | None:
        if not self._lost:
            return None
        meter = self._lost[-1].meter
        assert meter.mark is not None
        return Begun(prompt=meter.mark, tokens=self.position, tool_calls=meter.tool_calls)

    def spent(self) -> Money:
        """What the lost parts cost."""
        entries = [entry for entry in (self._usage(), *self._more_usage()) if entry is not None]
        return sum((entry.customer_amount for entry in entries), ZERO)

    @property
    def position(self) -> int:
        """How many tokens came before the running attempt."""
        return sum(attempt.tokens_made for attempt in self._lost) if self._lost else 0

    @property
    def lost(self) -> Sequence[Attempt]:
        """The attempts that broke off after their first step, in order."""
        return self._lost

    @property
    def tokens(self) -> int:
        """How many tokens the customer was handed so far."""
        if not self._lost:
            return 0 if self.attempt is None else self.attempt.tokens_made
        return sum(attempt.tokens_made for attempt in self._delivering())

    @property
    def has_begun(self) -> bool:
        """Whether an endpoint serves or has served."""
        return self.attempt is not None or bool(self._lost)

    @property
    def exact(self) -> bool:
        """Whether every token that was counted had its id."""
        parts = self._delivering()
        return bool(parts) and all(attempt.meter.exact for attempt in parts)

    def complete(self) -> FinishedRequest:
        """Decide on the good end; also of an endpoint that broke off when nothing was left to deliver."""
        if self.attempt is None:
            reason = self._lost[-1].meter.ends or FinishReason.LENGTH
            return self._decide("completed", finish_reason=reason, error_code=None)
        return super().complete()

    @property
    def tokens_expected(self) -> int:
        """A guess of prompt and answer."""
        return tokens_expected(self.request)

    def quantities(self) -> Quantities | None:
        """Of the first part: every token handed out, and the prompt if there was any."""
        parts = self._delivering()
        return _first_quantities(parts[0].meter) if parts else None

    def _delivering(self) -> Sequence[Attempt]:
        """Those who delivered, each a part of the answer."""
        running = self.attempt
        if not self._lost:  # Mostly: nothing broke off.
            return () if running is None or not running.meter.tokens_completion else (running,)
        attempts = self._lost if running is None else (*self._lost, running)
        return [attempt for attempt in attempts if attempt.tokens_made]

    def _usage(self) -> UsageEntry | None:
        parts = self._delivering()
        if not parts:
            return None
        first = parts[0]
        return self._entry(first.endpoint, _first_quantities(first.meter), exact=first.meter.exact)

    def _more_usage(self) -> tuple[UsageEntry, ...]:
        if not self._lost:
            return ()
        # Prompt and request are paid once, to who began.
        return tuple(
            self._entry(part.endpoint, Quantities(token_completion=part.tokens_made), exact=part.meter.exact)
            for part in self._delivering()[1:]
        )

    def _model_served(self) -> str:
        return self._lost[0].endpoint.model_slug if self._lost else super()._model_served()

    def _first_token_ms(self) -> int | None:
        if not self._lost:
            return super()._first_token_ms()
        at = self._lost[0].first_token_at
        return None if at is None else int((at - self._begun_at) * 1000)

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
        assert self.final is not None
        assert self.final.finish_reason is not None
        tokens_prompt, tokens_completion, cost = self._bill()
        return Finished(
            finish_reason=self.final.finish_reason,
            tokens_prompt=tokens_prompt,
            tokens_completion=tokens_completion,
            cost=cost,
            provider=self._provider(),
            attempts=len(self._attempts),
            tokens_cached=0 if self.final.usage is None else self.final.usage.quantities.token_cached,
            resumed=tuple(self.resumed),
            record=self.final,
        )

    def broken(self, error: DomainError, *, billed: bool) -> Broken:
        """What the caller is told at the bad end; nothing costs unless `billed`."""
        tokens_prompt, tokens_completion, cost = self._bill() if billed else (0, 0, ZERO)
        return Broken(
            error=error,
            tokens_prompt=tokens_prompt,
            tokens_completion=tokens_completion,
            cost=cost,
            provider=self._provider(),
            attempts=len(self._attempts),
            resumed=tuple(self.resumed),
        )

    def _provider(self) -> str:
        """Who served last."""
        parts = self._delivering()
        last = parts[-1] if parts else self.attempt
        return "" if last is None else last.endpoint.provider_slug

    def _bill(self) -> tuple[int, int, Money]:
        if self.final is None or self.final.usage is None:
            return 0, 0, ZERO
        first = self.final.usage.quantities
        return first.token_prompt + first.token_cached, self.tokens, self.final.charge


def _first_quantities(meter: Meter) -> Quantities:
    """What is paid of the first part: its prompt too."""
    return Quantities(
        token_prompt=meter.tokens_prompt - meter.tokens_cached,
        token_cached=meter.tokens_cached,
        token_completion=meter.tokens_completion,
        request=1,
    )
