"""The life of a request: route -> hold -> first token -> stream -> record -> finish. Every surface goes through here.

Invariants:
- Money is held before an endpoint is touched, and every hold is captured (`UsageSink.record` with usage) or voided
  (`record` without, or `HoldGate.release`) on every path; what a crash leaves behind expires.
- `Finished` is yielded only after the request is durably recorded.
- A client that leaves, at whatever moment, stops the engine and is billed once for what was delivered.
- Before the first token another endpoint may take over, and earns all. After it another one goes on where the text
  broke off, unless the customer wishes otherwise (`failover`), and each is paid for what it delivered. A reply that is
  not streamed has no first token before its end: it begins anew, and the failed endpoint earns nothing.

No transaction is held while tokens flow.
"""

import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from uuid import UUID

import structlog
from msgspec import structs

from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.ports import HoldGate, Rater, UsageSink
from raymart_core.wire.replica import StepEvent
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.admission import Admission
from raymart_marketplace.gateway.affinity import affinity_of
from raymart_marketplace.gateway.answers import Whole, whole
from raymart_marketplace.gateway.asked_deadline import check_deadline
from raymart_marketplace.gateway.awakening import Awakening, NeverAsleep
from raymart_marketplace.gateway.cache_salts import CacheSalts
from raymart_marketplace.gateway.candidates import turns
from raymart_marketplace.gateway.decision_trace import DecisionTrace
from raymart_marketplace.gateway.endpoint import Headers
from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.events import Broken, Finished, InferenceEvent, delta_of, delta_of_all
from raymart_marketplace.gateway.failover import Failover
from raymart_marketplace.gateway.hedge import Hedge
from raymart_marketplace.gateway.hedging import Hedging
from raymart_marketplace.gateway.life import RequestLife
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.model_lookup import ModelLookup
from raymart_marketplace.gateway.planner import Planner
from raymart_marketplace.gateway.quote import quote
from raymart_marketplace.gateway.replica_attempt import AttemptFailed
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.gateway.response_cache.cache import ResponseCache, Visit
from raymart_marketplace.gateway.settlement import Settlement, exhausted
from raymart_marketplace.gateway.shedding.shedder import LoadShedder
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.retention.exchange import Keep, kept
from raymart_marketplace.routing.preference import Sort
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
        sort: Sort = Sort.BALANCED,
        chance: Callable[[], int] | None = None,
        awakening: Awakening | None = None,
        entrance: Entrance | None = None,
        cache: ResponseCache | None = None,
    ) -> None:
        """`keep` takes what was said with keys that ask for that; without it nothing is ever kept.

        `sort` and `chance` are the planner's.

        Processes with the same `salts` share what engines have cached of a tenant; without any, this one shares with none.
        """
        self._salts = salts or CacheSalts(secrets.token_bytes(32))
        self._keep = keep
        self._cache = cache
        self.planner = Planner(directory, models, attempts_max=limits.attempts_max, sort=sort, chance=chance)
        self._awakening = awakening or NeverAsleep()
        self._directory = directory
        self._rater = rater
        self._limits = limits
        self._admission = admission
        self._entrance = entrance or Entrance(shedder=LoadShedder(directory))
        self._settlement = Settlement(
            directory=directory, hold_gate=hold_gate, usage_sink=usage_sink, limits=limits
        )
        self.hedging = Hedging(directory=directory, settlement=self._settlement, entrance=self._entrance)
        self._failover = Failover(
            directory=directory,
            settlement=self._settlement,
            plan=self.planner.live,
            rater=rater,
            limits=limits,
            entrance=self._entrance,
        )

    def run(
        self,
        caller: Caller,
        request: ChatRequest,
        *,
        surface: Surface,
        streamed: bool,
        request_id: UUID | None = None,
        deadline_s: float | None = None,
        trace: DecisionTrace | None = None,
    ) -> AsyncGenerator[InferenceEvent, None]:
        """Serve `request` for `caller`: `Started`, `Delta`..., then `Finished` or `Broken`; see `events`.

        Closing the generator (or cancelling the task that waits for it) means that the client left: the engine is
        stopped and what was delivered is billed. With `streamed` false nothing is handed out before the end.
        `request_id` lets an edge name the request in an error that comes before `Started`; the client waits no longer
        than `deadline_s`. `trace` is told how it is routed; it is whole when the last event is there.
        Raises: InvalidRequest, InsufficientFunds, ModelNotFound, NoEndpoint, UpstreamFailed, DeadlineExceeded,
        Unavailable, and what leaves no trace: ScopeMissing, ModelNotAllowed, what `Admission.check` and `Entrance.enter` raise;
        all before `Started`.
        """
        request_id = request_id or new_id()
        events = self._run(
            caller,
            request,
            surface=surface,
            streamed=streamed,
            request_id=request_id,
            deadline_s=deadline_s,
            trace=trace,
        )
        ttl_s = caller.answer_cache_s if request.cache_ttl_s is None else request.cache_ttl_s
        if ttl_s and self._cache is not None:
            visit = Visit(
                id=request_id, caller=caller, request=request, surface=surface, streamed=streamed, ttl_s=ttl_s
            )
            events = self._cache.answered(visit, events)
        # Who asks for nothing to be kept pays this one question for it.
        if not caller.keeps_prompts or self._keep is None:
            return events
        return kept(events, caller, request, self._keep)

    async def run_whole(
        self,
        caller: Caller,
        request: ChatRequest,
        *,
        surface: Surface,
        request_id: UUID | None = None,
        deadline_s: float | None = None,
        trace: DecisionTrace | None = None,
    ) -> Whole:
        """The same in one piece, which has no events: `run` would tell of each through several generators.

        Raises: what `run` raises, and the error of an answer that broke.
        """
        request_id = request_id or new_id()
        if self._is_watched(caller, request):
            run = self.run(
                caller,
                request,
                surface=surface,
                streamed=False,
                request_id=request_id,
                deadline_s=deadline_s,
                trace=trace,
            )
            async with aclosing(run) as events:
                return await whole(events)
        life = self._admitted(
            caller, request, request_id, surface=surface, streamed=False, deadline_s=deadline_s
        )
        try:
            steps = await self._begun(life, trace)
            started = life.started()
            try:
                await self._complete(life)
            except Unavailable:
                life.owing = False  # As in `_broken`.
                raise
            if trace is not None:
                trace.ended(life)
            return Whole(started=started, answer=delta_of_all(steps), finished=life.finished())
        except BaseException as error:
            await self._settlement.interrupted(life, error)
            raise
        finally:
            await self._end(life)

    def _is_watched(self, caller: Caller, request: ChatRequest) -> bool:
        """Whether somebody else wants the events: the response cache, or who keeps what was said."""
        ttl_s = caller.answer_cache_s if request.cache_ttl_s is None else request.cache_ttl_s
        return bool(ttl_s and self._cache is not None) or (caller.keeps_prompts and self._keep is not None)

    async def _run(
        self,
        caller: Caller,
        request: ChatRequest,
        *,
        surface: Surface,
        streamed: bool,
        request_id: UUID,
        deadline_s: float | None,
        trace: DecisionTrace | None,
    ) -> AsyncGenerator[InferenceEvent, None]:
        life = self._admitted(
            caller, request, request_id, surface=surface, streamed=streamed, deadline_s=deadline_s
        )
        try:
            steps = await self._begun(life, trace)
            yield life.started()
            try:
                if steps:
                    yield delta_of_all(steps)
                while life.attempt is not None:
                    try:
                        while (step := await life.attempt.next_step()) is not None:
                            yield delta_of(step)
                        break
                    except AttemptFailed as failure:
                        async with self._failover.gap(life, failure) as gap, aclosing(gap.events()) as events:
                            async for event in events:
                                yield event
                await self._complete(life)
            except (AttemptFailed, Unavailable) as failure:
                last: Finished | Broken = await self._broken(life, failure)
            else:
                last = life.finished()
            yield _traced(last, life, trace)
        except BaseException as error:
            await self._settlement.interrupted(life, error)
            raise
        finally:
            await self._end(life)

    def _admitted(
        self,
        caller: Caller,
        request: ChatRequest,
        request_id: UUID,
        *,
        surface: Surface,
        streamed: bool,
        deadline_s: float | None,
    ) -> RequestLife:
        """A request of who may ask. Raises: ScopeMissing, ModelNotAllowed, and what `Admission.check` raises."""
        caller.require(KeyScope.INFERENCE)
        caller.require_model(request.reference.slug)
        self._admission.check(caller)
        return RequestLife(
            request_id,
            caller,
            request,
            surface=surface,
            streamed=streamed,
            limits=self._limits.within(deadline_s),
            rater=self._rater,
            salts=self._salts,
        )

    async def _begun(self, life: RequestLife, trace: DecisionTrace | None) -> Sequence[StepEvent]:
        """Let it in, route it, hold what it can cost, and have its first step; all of them when nothing is streamed."""
        await self._entrance.enter(life)
        plan = await self._route(life, trace)
        check_deadline(life.patience, plan)
        await self._settlement.hold(life, self.quote(plan, life.needs))
        return await self._begin(life, plan)

    async def _end(self, life: RequestLife) -> None:
        """Give back whatever it still has."""
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
        if self._cache is not None:
            await self._cache.drain()
        await self._settlement.drain(timeout_s=timeout_s)

    def quote(self, plan: Sequence[LiveEndpoint], needs: Needs) -> Money:
        """What is held before such a request is dispatched to `plan`."""
        return quote(self._rater, plan, needs)

    async def _route(self, life: RequestLife, trace: DecisionTrace | None) -> Sequence[LiveEndpoint]:
        """The endpoints to try, best first; what sleeps is waited for.

        Raises: ModelNotFound, InvalidRequest, NoEndpoint, DeadlineExceeded.
        """
        preference = life.request.routing
        if (preference.sort or self.planner.sort) is Sort.AFFINITY:
            organization_id = life.caller.organization_id
            life.needs = structs.replace(life.needs, affinity=affinity_of(life.request, organization_id))
        again = partial(self.planner.plan, preference, life.needs)
        plan = await self._awakening.wait(
            await again(),
            again,
            preference=preference,
            needs=life.needs,
            modalities=(Modality.CHAT,),
            patience=life.patience,
        )
        if plan.refusal is not None:
            raise await self._settlement.give_up(life, plan.refusal)
        if trace is not None and plan.trace is not None:
            # The market is the very one that the plan was made of: nothing has been awaited since.
            report = await self.planner.explain(preference, life.needs, seed=plan.trace.toss.seed)
            trace.routed(plan, report)
        return plan.tried

    async def _begin(self, life: RequestLife, plan: Sequence[LiveEndpoint]) -> Sequence[StepEvent]:
        """Try the endpoints of `plan` until one delivers; its first step, or all of them when nothing is streamed.

        Raises: InvalidRequest, UpstreamFailed, NoEndpoint, DeadlineExceeded; the hold is then given back.
        """
        failures: list[AttemptFailed] = []
        places = turns(plan)
        for endpoint, spare in places:
            if failures and not self._entrance.may_retry():
                break
            lease = self._directory.acquire(endpoint.id)
            if lease is None:
                continue
            attempt = life.new_attempt(endpoint, lease, spare=spare)
            if life.hedge is Hedge.NOT_NEEDED:
                beginning = self.hedging.begin(life, spare=spare, places=places, failures=failures)
            else:
                beginning = attempt.begin(life.body_for(endpoint), request_id=life.public_id)
            try:
                steps = await life.first_steps(beginning)
                if life.streamed:  # Of what is not streamed nothing is handed out before its record.
                    self._settlement.watch(life)
                return steps
            except AttemptFailed as failure:
                attempt = life.attempt or attempt  # The second, if two were asked.
                life.attempt_failed(failure)
                await attempt.close()
                self._settlement.blame(attempt, failure)
                self._entrance.failed(life, failure)
                if not failure.retry:
                    raise await self._settlement.give_up(life, failure.error) from None
                failures.append(failure)
        raise await self._settlement.give_up(life, exhausted(life.request.model, failures))

    async def _complete(self, life: RequestLife) -> None:
        """Record the good end. Raises: Unavailable."""
        if life.attempt is not None:
            self._directory.report_success(life.attempt.endpoint.id, life.attempt.served())
        await self._settlement.record(life, life.complete())

    async def _broken(self, life: RequestLife, failure: AttemptFailed | Unavailable) -> Broken:
        """End a request that has begun: bill what was delivered, and say why no more comes."""
        if isinstance(failure, Unavailable):
            # The answer was whole but could not be recorded, so it is not billed. Its hold expires by itself: to void
            # it now could race with a record that arrives late.
            life.owing = False
            return life.broken(failure, billed=False)
        final = life.fail(failure.error.code, fault=failure.fault, reason=failure.reason)
        try:
            await self._settlement.record(life, final)
        except Unavailable:
            life.owing = False
            log.exception("request.not_recorded", request_id=life.public_id)
            return life.broken(failure.error, billed=False)
        return life.broken(failure.error, billed=True)


def _traced(last: Finished | Broken, life: RequestLife, trace: DecisionTrace | None) -> Finished | Broken:
    """`last`, once `trace` knows what was tried."""
    if trace is not None:
        trace.ended(life)
    return last
