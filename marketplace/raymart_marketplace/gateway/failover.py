"""How an answer survives its endpoint: another one of the same revision goes on from the tokens that were delivered.

The text joins because both sides of the join are the engines': an endpoint delivers a token only with text that is
whole, and the next one replays what was delivered before it goes on (`resume_ids`, proven by `serve`'s conformance
checks). So it is done only while every delivered id is known, and only where the prompt has the same ids.

Invariants:
- An answer costs no more than was held for it, whoever goes on.
- Nothing is delivered or counted twice: what a lost endpoint had not delivered is as if it had never been made.
- A gap ends: at the request's deadline, after `attempts_max` endpoints that deliver nothing, or when for
  `resume_wait_s` there is nobody to ask.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import msgspec
import structlog

from raymart_core.errors import DeadlineExceeded, DomainError, InvalidRequest, UpstreamFailed
from raymart_core.ports import Quantities, Rater
from raymart_core.units import Fault
from raymart_core.wire.replica import StepEvent
from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.events import WAITING, InferenceEvent, delta_of
from raymart_marketplace.gateway.life import RequestLife
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.replica_attempt import AttemptFailed
from raymart_marketplace.gateway.settlement import Settlement
from raymart_marketplace.routing.preference import RoutingPreference
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint

log = structlog.get_logger(__name__)

RESUMES_MAX = 16
"""How often one answer is taken up; `FinishedRequest` has room for 31 later parts."""
TRIES_AT_ONE_MAX = 2
"""How often one answer is asked of one endpoint: a link that broke may be back, a machine that breaks answers may not."""
KEEPALIVE_S = 1.0
"""How often who waits is given a sign of life."""
LOOK_EVERY_S = 0.05
REST_S = 0.5
"""How long an endpoint is left alone between two tries."""

Plan = Callable[[RoutingPreference, Needs], Sequence[LiveEndpoint]]
"""Where such a request would go at this moment, best first; asks nothing of anybody."""


class _Left(Exception):
    """The endpoint went away while it was chosen."""


class Gap:
    """The time between a lost endpoint's last token and the next one's first."""

    def __init__(self, life: RequestLife, search: "asyncio.Task[StepEvent | None]") -> None:
        self._life = life
        self._search = search

    async def events(self) -> AsyncGenerator[InferenceEvent, None]:
        """`Waiting` for as long as it lasts, then `Resumed` and the first `Delta`; neither where the answer is whole already.

        Raises: AttemptFailed when nobody goes on.
        """
        while not (await asyncio.wait((self._search,), timeout=KEEPALIVE_S))[0]:
            yield WAITING
        step = self._search.result()
        if step is not None:
            yield self._life.resume()
            yield delta_of(step)


class Failover:
    """Finds who goes on with a broken answer. One per process."""

    def __init__(
        self,
        *,
        directory: EndpointDirectory,
        settlement: Settlement,
        plan: Plan,
        rater: Rater,
        limits: InferenceLimits,
        entrance: Entrance,
    ) -> None:
        self._directory = directory
        self._settlement = settlement
        self._plan = plan
        self._rater = rater
        self._limits = limits
        self._entrance = entrance

    @asynccontextmanager
    async def gap(self, life: RequestLife, failure: AttemptFailed) -> AsyncIterator[Gap]:
        """Look for who goes on after `failure` of the running attempt, for as long as the block lasts.

        When the gap is over, `life.attempt` is who goes on, or None where nothing was left to deliver.
        """
        search = asyncio.create_task(self._taken_up(life, failure), name="failover")
        try:
            yield Gap(life, search)
        finally:
            if not search.done():
                search.cancel()
                await asyncio.wait((search,))

    async def _taken_up(self, life: RequestLife, failure: AttemptFailed) -> StepEvent | None:
        lost = life.attempt
        assert lost is not None
        lost_at = asyncio.get_running_loop().time()
        life.lose(failure)
        self._entrance.failed(life, failure)
        self._settlement.blame(lost, failure)
        # A link that hangs takes its time to close, and the customer waits.
        self._settlement.later(lost.close())
        if failure.retry and life.is_whole:
            return None  # It broke off between its last step and its good end.
        obstacle = _obstacle(life, failure)
        if obstacle is not None:
            raise _ended(failure, obstacle)
        life.draw_seed()
        step = await self._next_step(life, failure)
        assert life.attempt is not None
        log.info(
            "request.resumed",
            request_id=life.public_id,
            position=life.position,
            endpoint_id=str(life.attempt.endpoint.id),
            gap_ms=round((asyncio.get_running_loop().time() - lost_at) * 1000),
        )
        return step

    async def _next_step(self, life: RequestLife, broken: AttemptFailed) -> StepEvent | None:
        """Ask one after the other until one goes on; its first step, if it has any. Raises: AttemptFailed."""
        rest = _Rest(life)
        why = "no other endpoint can serve it"
        # What a dead endpoint did is done by another instead; everything else comes on top, as retries do, and a market
        # that is too slow must not be given more to do.
        is_replacement = not broken.is_late
        for _ in range(self._limits.attempts_max):
            found = await self._somebody(life, rest)
            if found is None:
                break
            if not (is_replacement or self._entrance.may_retry()):
                why = "too much is being retried at the moment"
                break
            is_replacement = False
            try:
                return await self._begun(life, *found)
            except _Left:
                continue
            except AttemptFailed as failure:
                if isinstance(failure.error, DeadlineExceeded):
                    raise
                why = _why(failure)
                if _cannot_be_taken_up(failure):
                    break
        raise _ended(broken, why)

    async def _begun(
        self, life: RequestLife, endpoint: LiveEndpoint, spare: LiveEndpoint | None
    ) -> StepEvent | None:
        """The first step there. Raises: AttemptFailed, _Left."""
        lease = self._directory.acquire(endpoint.id)
        if lease is None:
            raise _Left
        attempt = life.new_attempt(endpoint, lease, spare=spare)
        try:
            return await attempt.begin(life.body_for(endpoint), request_id=life.public_id)
        except AttemptFailed as failure:
            life.attempt_failed(failure)
            self._entrance.failed(life, failure)
            self._settlement.blame(attempt, failure)
            self._settlement.later(attempt.close())
            raise

    async def _somebody(
        self, life: RequestLife, rest: "_Rest"
    ) -> tuple[LiveEndpoint, LiveEndpoint | None] | None:
        """Whom to ask next, and whom after that; None when nobody turns up. Raises: AttemptFailed at the deadline."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.resume_wait_s
        while True:
            found = [one for one in self._ranked(life, rest) if rest.allows(one)]
            if found:
                rest.note(found[0])
                return found[0], found[1] if len(found) > 1 else None
            if loop.time() >= until:
                return None
            try:
                await life.patience.wait(_pause, limit_s=1.0)
            except DeadlineExceeded as error:
                raise AttemptFailed(
                    "deadline", fault=Fault.NONE, error=error, retry=False, blame=False
                ) from None

    def _ranked(self, life: RequestLife, rest: "_Rest") -> Sequence[LiveEndpoint]:
        """Who could go on at this moment, best first; those of providers that failed come last."""
        wishes, needs = _wishes(life), _needs(life)
        elsewhere = replace(wishes, ignore=(*wishes.ignore, *rest.providers))
        plan = [*self._plan(elsewhere, needs), *self._plan(wishes, needs)]
        # A dict keeps the first of each.
        return [one for one in {each.id: each for each in plan}.values() if self._is_paid(life, one)]

    def _is_paid(self, life: RequestLife, endpoint: LiveEndpoint) -> bool:
        """Whether what is held pays for the rest of the answer there; `_wishes` has left out nearly all others."""
        left = life.tokens_left(endpoint)
        if left <= 0:
            return False
        return (
            life.spent() + self._rater.quote(Quantities(token_completion=left), endpoint.prices) <= life.held
        )


class _Rest:
    """Who was asked for one answer, and must be left alone for now."""

    def __init__(self, life: RequestLife) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: dict[UUID, int] = {}
        self._until: dict[UUID, float] = {}
        self.providers: set[str] = set()
        for attempt in life.lost:
            self.note(attempt.endpoint)

    def note(self, endpoint: LiveEndpoint) -> None:
        """It was asked."""
        self._asked[endpoint.id] = self._asked.get(endpoint.id, 0) + 1
        self._until[endpoint.id] = self._loop.time() + REST_S
        self.providers.add(endpoint.provider_slug)

    def allows(self, endpoint: LiveEndpoint) -> bool:
        """Whether it may be asked now."""
        return (
            self._asked.get(endpoint.id, 0) < TRIES_AT_ONE_MAX
            and self._until.get(endpoint.id, 0.0) <= self._loop.time()
        )


def _obstacle(life: RequestLife, failure: AttemptFailed) -> str | None:
    """Why the answer cannot be taken up by anybody."""
    if not failure.retry:
        return ""  # The failure says it all.
    if not life.request.routing.allow_resume:
        return "the request asks for no resumption"
    if not life.exact:
        return "not all of its token ids are known"
    if len(life.resumed) >= RESUMES_MAX:
        return f"it was taken up {RESUMES_MAX} times already"
    return None


def _cannot_be_taken_up(failure: AttemptFailed) -> bool:
    return isinstance(failure.error, InvalidRequest) and failure.error.param == "resume_ids"


def _why(failure: AttemptFailed) -> str:
    if _cannot_be_taken_up(failure):
        return "an answer that is held to a format cannot be taken up in its middle by this engine"
    return f"another endpoint failed too: {failure.reason}"


def _ended(failure: AttemptFailed, why: str) -> AttemptFailed:
    """`failure`, with the reason that nobody went on."""
    if not why:
        return failure
    error: DomainError = UpstreamFailed(f"{failure.error.message}; the answer was not taken up: {why}")
    return AttemptFailed(
        f"{failure.reason}; not taken up: {why}",
        fault=failure.fault,
        error=error,
        retry=False,
        blame=failure.blame,
    )


def _wishes(life: RequestLife) -> RoutingPreference:
    """What the customer wishes of routing, as it binds whoever goes on; and nothing dearer than what is held."""
    wishes, began = life.request.routing, life.lost[0].endpoint
    affordable = (life.held - life.spent()).amount // life.tokens_left(began)
    asked = wishes.completion_nano_usd_max
    wishes = replace(wishes, completion_nano_usd_max=affordable if asked is None else min(asked, affordable))
    if wishes.allow_fallbacks or wishes.order:
        return wishes
    # Without an order, the one provider is whoever ranked first.
    return replace(wishes, only=(began.provider_slug,))


def _needs(life: RequestLife) -> Needs:
    """What is needed of whoever goes on: the same weights, and room for all of the answer that was asked for."""
    began = life.lost[0]
    read = began.meter.tokens_prompt + life.tokens
    asked = life.needs.tokens_completion_max
    left = None if asked is None else asked - life.tokens
    return msgspec.structs.replace(
        life.needs,
        revision=began.endpoint.revision_digest,
        tokens_prompt_max=read,
        tokens_completion_max=left,
        tokens_min=read + (1 if left is None else left),
    )


async def _pause() -> None:
    await asyncio.sleep(LOOK_EVERY_S)
