"""The life of a request that is answered in one piece: route -> hold -> ask, elsewhere if need be -> record -> answer.

The invariants are those of `gateway.inference` for what is not streamed: nothing is handed out before its record, so an
endpoint that fails is replaced and earns nothing, and a failure costs nothing. Whether a language model has vectors
is known to its engine, which refuses as the customer's error.
"""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_core.money import ZERO, Money
from raymart_core.ports import HoldGate, Quantities, Rater, UsageSink
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.admission import Admission
from raymart_marketplace.gateway.asked_deadline import check_deadline
from raymart_marketplace.gateway.awakening import Awakening, NeverAsleep
from raymart_marketplace.gateway.endpoint import Headers
from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.replica_attempt import AttemptFailed
from raymart_marketplace.gateway.route_plan import Plan
from raymart_marketplace.gateway.settlement import Settlement, exhausted
from raymart_marketplace.gateway.shedding.shedder import LoadShedder
from raymart_marketplace.gateway.vectors.life import Answered, VectorLife
from raymart_marketplace.gateway.vectors.request import Reply, VectorRequest
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint

_MODALITIES = (Modality.EMBEDDING, Modality.CHAT)
"""What models have vectors; a language model of its hidden states."""


class VectorInference:
    """Runs requests for embeddings and scores against live endpoints and has them paid for. One per process."""

    def __init__(
        self,
        *,
        directory: EndpointDirectory,
        plan: Plan,
        hold_gate: HoldGate,
        usage_sink: UsageSink,
        rater: Rater,
        limits: InferenceLimits,
        admission: Admission,
        awakening: Awakening | None = None,
        entrance: Entrance | None = None,
    ) -> None:
        """`plan`: `Planner.plan`, so that these go where text would."""
        self._directory = directory
        self._plan = plan
        self._rater = rater
        self._limits = limits
        self._admission = admission
        self._entrance = entrance or Entrance(shedder=LoadShedder(directory))
        self._awakening = awakening or NeverAsleep()
        self._settlement = Settlement(
            directory=directory, hold_gate=hold_gate, usage_sink=usage_sink, limits=limits
        )

    async def run(
        self,
        caller: Caller,
        request: VectorRequest[Reply],
        *,
        surface: Surface,
        request_id: UUID | None = None,
        deadline_s: float | None = None,
    ) -> Answered[Reply]:
        """Serve `request` for `caller`. Cancelling means that the client left: the engine is stopped.

        What was answered whole by then is billed, for it was made for the client; nothing else is.
        Raises: InvalidRequest, InsufficientFunds, ModelNotFound, NoEndpoint, UpstreamFailed, DeadlineExceeded,
        Unavailable, and what leaves no trace: ScopeMissing, ModelNotAllowed, what `Admission.check` and
        `Entrance.enter` raise. `deadline_s`: the client waits no longer.
        """
        caller.require(KeyScope.INFERENCE)
        caller.require_model(request.reference.slug)
        self._admission.check(caller)
        life = VectorLife(
            request_id or new_id(),
            caller,
            request,
            surface=surface,
            limits=self._limits.within(deadline_s),
            rater=self._rater,
        )
        try:
            await self._entrance.enter(life)
            plan = await self._route(life)
            check_deadline(life.patience, plan)
            await self._settlement.hold(life, self._quote(plan, request))
            reply = await self._tried(life, plan)
            await self._record(life)
            return life.answered(reply)
        except BaseException as error:
            await self._settlement.interrupted(life, error)
            raise
        finally:
            self._entrance.leave(life)
            if life.attempt is not None:
                await life.attempt.close()
            life.patience.close()

    @property
    def limits(self) -> InferenceLimits:
        """The bounds of every request."""
        return self._limits

    def headers_of(self, caller: Caller) -> Headers:
        """How the caller's limits stand, for its answers."""
        return self._entrance.headers(caller)

    async def drain(self, *, timeout_s: float) -> None:
        """Wait for settlements that are still under way, at most `timeout_s`; called at shutdown."""
        await self._settlement.drain(timeout_s=timeout_s)

    def _quote(self, plan: Sequence[LiveEndpoint], request: VectorRequest[Reply]) -> Money:
        """The most that any endpoint of `plan` could charge. Inputs are counted one by one: no context bounds their sum."""
        most = Quantities(token_prompt=request.tokens_max, request=1)
        return max((self._rater.quote(most, endpoint.prices) for endpoint in plan), default=ZERO)

    async def _route(self, life: VectorLife[Reply]) -> Sequence[LiveEndpoint]:
        """The endpoints to try, best first; what sleeps is waited for.

        Raises: ModelNotFound, InvalidRequest for another kind of model, NoEndpoint, DeadlineExceeded.
        """
        again = partial(self._plan, life.request.routing, life.needs, modalities=_MODALITIES)
        plan = await self._awakening.wait(
            await again(),
            again,
            preference=life.request.routing,
            needs=life.needs,
            modalities=_MODALITIES,
            patience=life.patience,
        )
        if plan.refusal is not None:
            raise await self._settlement.give_up(life, plan.refusal)
        return plan.tried

    async def _tried(self, life: VectorLife[Reply], plan: Sequence[LiveEndpoint]) -> Reply:
        """The first good answer of an endpoint of `plan`. Raises: DomainError; the hold is then given back."""
        failures: list[AttemptFailed] = []
        for endpoint in plan:
            if failures and not self._entrance.may_retry():
                break
            lease = self._directory.acquire(endpoint.id)
            if lease is None:
                continue
            attempt = life.new_attempt(endpoint, lease)
            try:
                reply = await attempt.answer(life.body, request_id=life.public_id)
            except AttemptFailed as failure:
                life.attempt_failed(failure)
                await attempt.close()
                self._settlement.blame(attempt, failure)
                self._entrance.failed(life, failure)
                if not failure.retry:
                    raise await self._settlement.give_up(life, failure.error) from None
                failures.append(failure)
            else:
                self._directory.report_success(endpoint.id, attempt.served())
                return reply
        raise await self._settlement.give_up(life, exhausted(life.request.model, failures))

    async def _record(self, life: VectorLife[Reply]) -> None:
        """Make the good end durable. Raises: Unavailable; then nothing is billed and the hold expires."""
        try:
            await self._settlement.record(life, life.complete())
        except Unavailable:
            # To void the hold now could race with a record that arrives late.
            life.owing = False
            raise
