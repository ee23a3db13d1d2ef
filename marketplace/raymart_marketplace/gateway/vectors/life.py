"""What is known of one request while it runs, and what its caller is told at the end."""

from datetime import datetime
from typing import Generic
from uuid import UUID

import msgspec

from raymart_core.money import ZERO, Money
from raymart_core.ports import Quantities, Rater
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.quote import BYTES_PER_TOKEN
from raymart_marketplace.gateway.request_life import Life
from raymart_marketplace.gateway.vectors.attempt import VectorAttempt
from raymart_marketplace.gateway.vectors.request import Reply, VectorRequest
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.supply.live import Lease, LiveEndpoint


class Answered(msgspec.Struct, Generic[Reply], frozen=True, kw_only=True):
    """The good end. The request is durably recorded when this is returned."""

    request_id: UUID
    created_at: datetime
    """When the request arrived."""
    model: str
    """Slug of the model that served."""
    provider: str
    revision: str
    attempts: int
    tokens: int
    cost: Money
    """What the customer pays."""
    reply: Reply


class VectorLife(Life[VectorAttempt[Reply]], Generic[Reply]):
    """One request from arrival to record. Mutable, owned by one `VectorInference.run`."""

    def __init__(
        self,
        request_id: UUID,
        caller: Caller,
        request: VectorRequest[Reply],
        *,
        surface: Surface,
        limits: InferenceLimits,
        rater: Rater,
    ) -> None:
        super().__init__(
            request_id,
            caller,
            model=request.model,
            surface=surface,
            streamed=False,
            limits=limits,
            rater=rater,
        )
        self.request = request
        self.body = request.body()
        """The request as any replica is asked for it."""
        self.needs = msgspec.structs.replace(needs_of(request), organization_id=caller.organization_id)

    def new_attempt(self, endpoint: LiveEndpoint, lease: Lease) -> VectorAttempt[Reply]:
        """Make the next try, on `endpoint`."""
        self.attempt = VectorAttempt(
            endpoint, lease, self.request, patience=self.patience, limits=self._limits
        )
        return self.attempt

    @property
    def tokens(self) -> int:
        """None: what is made has no tokens."""
        return 0

    @property
    def tokens_expected(self) -> int:
        """A guess: text has about four bytes a token, and the bound counts bytes."""
        return self.request.tokens_max // BYTES_PER_TOKEN + 1

    def quantities(self) -> Quantities | None:
        """Every token that was read, once the answer is whole."""
        if self.attempt is None or not self.attempt.tokens:
            return None
        return Quantities(token_prompt=self.attempt.tokens, request=1)

    @property
    def exact(self) -> bool:
        """The endpoint counts; the gateway only bounds what it says of texts, and knows of token ids."""
        return True

    def answered(self, reply: Reply) -> Answered[Reply]:
        """What the caller is told."""
        assert self.attempt is not None
        assert self.final is not None
        endpoint, usage = self.attempt.endpoint, self.final.usage
        return Answered(
            request_id=self.id,
            created_at=self._created_at,
            model=endpoint.model_slug,
            provider=endpoint.provider_slug,
            revision=endpoint.revision_digest,
            attempts=len(self._attempts),
            tokens=self.attempt.tokens,
            cost=ZERO if usage is None else usage.customer_amount,
            reply=reply,
        )


def needs_of(request: VectorRequest[Reply]) -> Needs:
    """What routing has to know. How long each input is, only the endpoint's tokenizer can say."""
    return Needs(
        model_slug=request.reference.slug,
        revision=request.reference.revision,
        tokens_prompt_max=request.tokens_max,
        tokens_completion_max=0,
        tokens_min=1,
    )
