"""The life of a request: route -> hold -> first token -> stream -> record -> finish. Every surface goes through here.

Invariants:
- Money is held before an endpoint is touched, and every hold is captured (`UsageSink.record` with usage) or voided
  (`record` without, or `HoldGate.release`) on every path; what a crash leaves behind expires.
- `Finished` is yielded only after the request is durably recorded.
- A client that leaves, at whatever moment, stops the engine and is billed once for what was delivered.
- Before the first token another endpoint may take over; after it none does. A reply that is not streamed has no first
  token before its end, so there an endpoint can be replaced at any time, and the failed one earns nothing.

No transaction is held while tokens flow.
"""

import secrets
from collections.abc import AsyncGenerator, Collection, Sequence
from uuid import UUID

import structlog

from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.ports import HoldGate, Rater, UsageSink
from raymart_core.wire.replica import StepEvent
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.admission import Admission
from raymart_marketplace.gateway.attempt import Attempt
from raymart_marketplace.gateway.cache_salts import CacheSalts
from raymart_marketplace.gateway.events import Broken, Delta, InferenceEvent
from raymart_marketplace.gateway.life import RequestLife
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.model_lookup import ModelLookup
from raymart_marketplace.gateway.quote import quote
from raymart_marketplace.gateway.replica_attempt import AttemptFailed
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.gateway.route_plan import RoutePlan, plan_route
from raymart_marketplace.gateway.settlement import Settlement, exhausted
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.retention.exchange import Keep, kept
from raymart_marketplace.routing.preference import RoutingPreference
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint

log = structlog.get_logger(__name__)


class Inference:
    """Runs chat requests against live endpoints and has them paid for. One per process."""

    def __init__(
        self,
        *,
        directory: EndpointDirectory,
        models: ModelLookup,
        hold_gate: HoldGate,
        usage_sink: UsageSink,
        rater: Rater,
        limits: InferenceLimits,
        admission: Admission,
        keep: Keep | None = None,
        salts: CacheSalts | None = None,
    ) -> None:
        """`keep` takes what was said with keys that ask for that; without it nothing is ever kept.

        Processes with the same `salts` share what engines have cached of a tenant; without any, this one shares with none.
        """
        self._salts = salts or CacheSalts(secrets.token_bytes(32))
        self._keep = keep
        self._directory = directory
        self._models = models
        self._rater = rater
        self._limits = limits
        self._admission = admission
        self._settlement = Settlement(
            directory=directory, hold_gate=hold_gate, usage_sink=usage_sink, limits=limits
        )

    def run(
        self,
        caller: Caller,
        request: ChatRequest,
        *,
        surface: Surface,
        streamed: bool,
        request_id: UUID | None = None,
    ) -> AsyncGenerator[InferenceEvent, None]:
        """Serve `request` for `caller`: `Started`, `Delta`..., then `Finished` or `Broken`.

        Closing the generator (or cancelling the task that waits for it) means that the client left: the engine is
        stopped and what was delivered is billed. With `streamed` false nothing is handed out before the end.
        `request_id` lets an edge name the request in an error that comes before `Started`.
        Raises: InvalidRequest, InsufficientFunds, ModelNotFound, NoEndpoint, UpstreamFailed, DeadlineExceeded,
        Unavailable, and what leaves no trace: ScopeMissing, ModelNotAllowed, what `Admission.check` raises; all before
        `Started`.
        """
        events = self._run(
            caller, request, surface=surface, streamed=streamed, request_id=request_id or new_id()
        )
        # Who asks for nothing to be kept pays this one question for it.
        if not caller.keeps_prompts or self._keep is None:
            return events
        return kept(events, caller, request, self._keep)

    async def _run(
        self, caller: Caller, request: ChatRequest, *, surface: Surface, streamed: bool, request_id: UUID
    ) -> AsyncGenerator[InferenceEvent, None]:
        caller.require(KeyScope.INFERENCE)
        caller.require_model(request.reference.slug)
        self._admission.check(caller)
        life = RequestLife(
            request_id,
            caller,
            request,
            surface=surface,
            streamed=streamed,
            limits=self._limits,
            rater=self._rater,
            salts=self._salts,
        )
        try:
            plan = await self._route(life)
            await self._settlement.hold(life, self.quote(plan, life.needs))
            attempt, steps = await self._begin(life, plan)
            if streamed:  # Of what is not streamed nothing is handed out before its record.
                self._settlement.watch(life)
            yield life.started()
            try:
                if steps:
                    yield _delta(steps)
                while attempt.finish_reason is None and (step := await attempt.next_step()) is not None:
                    yield _delta_of(step)
                self._directory.report_success(attempt.endpoint.id)
                await self._settlement.record(life, life.complete())
            except (AttemptFailed, Unavailable) as failure:
                yield await self._broken(life, failure)
            else:
                yield life.finished()
        except BaseException as error:
            await self._settlement.interrupted(life, error)
            raise
        finally:
            if life.attempt is not None:
                await life.attempt.close()
            life.patience.close()

    @property
    def limits(self) -> InferenceLimits:
        """The bounds of every request."""
        return self._limits

    async def drain(self, *, timeout_s: float) -> None:
        """Wait for settlements that are still under way, at most `timeout_s`; called at shutdown."""
        await self._settlement.drain(timeout_s=timeout_s)

    async def plan(
        self,
        preference: RoutingPreference,
        needs: Needs,
        *,
        modalities: Collection[Modality] = (Modality.CHAT,),
    ) -> RoutePlan:
        """Where such a request goes at this moment; asks nothing of anybody. Raises: ModelNotFound, Unavailable."""
        plan = plan_route(
            self._directory,
            preference,
            needs,
            modalities=modalities,
            attempts_max=self._limits.attempts_max,
        )
        if not plan.routing.ranked and not plan.routing.rejected:
            await self._models.require(needs.model_slug, organization_id=needs.organization_id)
        return plan

    def quote(self, plan: Sequence[LiveEndpoint], needs: Needs) -> Money:
        """What is held before such a request is dispatched to `plan`."""
        return quote(self._rater, plan, needs)

    async def _route(self, life: RequestLife) -> Sequence[LiveEndpoint]:
        """The endpoints to try, best first. Raises: ModelNotFound, InvalidRequest, NoEndpoint."""
        plan = await self.plan(life.request.routing, life.needs)
        if plan.refusal is not None:
            raise await self._settlement.give_up(life, plan.refusal)
        return plan.tried

    async def _begin(
        self, life: RequestLife, plan: Sequence[LiveEndpoint]
    ) -> tuple[Attempt, Sequence[StepEvent]]:
        """Try the endpoints of `plan` until one delivers; its first step, or all of them when nothing is streamed.

        Raises: InvalidRequest, UpstreamFailed, NoEndpoint, DeadlineExceeded; the hold is then given back.
        """
        failures = []
        for endpoint in plan:
            lease = self._directory.acquire(endpoint.id)
            if lease is None:
                continue
            attempt = life.new_attempt(endpoint, lease)
            try:
                return attempt, await _first_steps(life, attempt)
            except AttemptFailed as failure:
                life.attempt_failed(failure)
                await attempt.close()
                self._settlement.blame(attempt, failure)
                if not failure.retry:
                    raise await self._settlement.give_up(life, failure.error) from None
                failures.append(failure)
        raise await self._settlement.give_up(life, exhausted(life.request.model, failures))

    async def _broken(self, life: RequestLife, failure: AttemptFailed | Unavailable) -> Broken:
        """End a request that has begun: bill what was delivered, and say why no more comes."""
        if isinstance(failure, Unavailable):
            # The answer was whole but could not be recorded, so it is not billed. Its hold expires by itself: to void
            # it now could race with a record that arrives late.
            life.owing = False
            return life.broken(failure, billed=False)
        assert life.attempt is not None
        final = life.fail(failure.error.code, fault=failure.fault, reason=failure.reason)
        await life.attempt.close()
        self._settlement.blame(life.attempt, failure)
        try:
            await self._settlement.record(life, final)
        except Unavailable:
            life.owing = False
            log.exception("request.not_recorded", request_id=life.public_id)
            return life.broken(failure.error, billed=False)
        return life.broken(failure.error, billed=True)


async def _first_steps(life: RequestLife, attempt: Attempt) -> list[StepEvent]:
    step = await attempt.begin(life.body_for(attempt.endpoint), request_id=life.public_id)
    steps = []
    while step is not None:
        steps.append(step)
        if life.streamed:
            break
        step = await attempt.next_step()
    return steps


def _delta_of(step: StepEvent) -> Delta:
    return Delta(text=step.d, token_ids=step.t, logprobs=step.lp, reasoning=step.r, tools=step.tool)


def _delta(steps: Sequence[StepEvent]) -> Delta:
    if len(steps) == 1:
        return _delta_of(steps[0])
    logprobs = tuple(logprob for step in steps for logprob in step.lp or ())
    return Delta(
        text="".join(step.d for step in steps),
        token_ids=tuple(token for step in steps for token in step.t),
        logprobs=logprobs or None,
        reasoning="".join(step.r for step in steps),
        tools=tuple(piece for step in steps for piece in step.tool),
    )
