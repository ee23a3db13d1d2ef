"""What is known of one chat request while it runs, and the rows and events that follow from it."""

from dataclasses import replace
from uuid import UUID

import msgspec

from raymart_core.errors import DomainError
from raymart_core.money import ZERO, Money
from raymart_core.ports import Quantities, Rater
from raymart_core.wire.replica import GenerateRequest, Sampling, encode
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.attempt import Attempt
from raymart_marketplace.gateway.cache_salts import CacheSalts
from raymart_marketplace.gateway.events import Broken, Finished, Started
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.meter import Meter
from raymart_marketplace.gateway.quote import completion_bound, needs_of, prompt_bound
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.gateway.request_life import Life
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.supply.live import Lease, LiveEndpoint


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
        self.needs = replace(needs_of(request), organization_id=caller.organization_id)
        self._salts = salts

    def new_attempt(self, endpoint: LiveEndpoint, lease: Lease) -> Attempt:
        """Make the next try, on `endpoint`."""
        meter = Meter(
            tokens_prompt_max=prompt_bound(endpoint, self.needs),
            tokens_completion_max=completion_bound(endpoint, self.needs),
            tools=bool(self.request.options.tools),
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
        salt = self._salts.salt(organization_id=self.caller.organization_id, node_id=endpoint.node_id)
        options = msgspec.structs.replace(self.request.options, cache_salt=salt)
        return encode(GenerateRequest(sampling=sampling, messages=self.request.messages, options=options))

    @property
    def tokens(self) -> int:
        """How many tokens the customer was handed so far."""
        return 0 if self.attempt is None else self.attempt.meter.tokens_completion

    def quantities(self) -> Quantities | None:
        """Every token handed out, and the prompt if there was any."""
        if self.attempt is None or not self.attempt.meter.tokens_completion:
            return None
        meter = self.attempt.meter
        return Quantities(
            token_prompt=meter.tokens_prompt, token_completion=meter.tokens_completion, request=1
        )

    @property
    def exact(self) -> bool:
        """Whether every token that was counted had its id."""
        return self.attempt is not None and self.attempt.meter.exact

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
