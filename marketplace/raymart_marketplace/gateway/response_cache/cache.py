"""`ResponseCache`: a request that asks for it gets an answer that was given before, or has its own kept for the next."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from msgspec.structs import replace

from raymart_core import clock
from raymart_core.money import ZERO, Money
from raymart_core.ports import FinishedRequest, HoldGate, Rater, UsageEntry, UsageSink
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.gateway.admission import Admission
from raymart_marketplace.gateway.events import Delta, Finished, InferenceEvent, Started
from raymart_marketplace.gateway.rate_limits.limiter import RateLimiter
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.gateway.response_cache.answer import CachedAnswer, joined
from raymart_marketplace.gateway.response_cache.billing import resold
from raymart_marketplace.gateway.response_cache.key import answer_key, is_repeatable, request_digest
from raymart_marketplace.gateway.response_cache.store import ANSWER_BYTES_MAX, AnswerStore
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint, Standing

log = structlog.get_logger(__name__)

REVISIONS_MAX = 4
"""Revisions of one model whose answers are looked for."""
KEEPING_MAX = 200
"""Answers on their way to Redis; more are not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request that asks for a cached answer."""

    id: UUID
    caller: Caller
    request: ChatRequest
    surface: Surface
    streamed: bool
    ttl_s: int
    """How long its answer is kept, at least 1."""


@dataclass(slots=True, kw_only=True, eq=False)
class ResponseCache:
    """One per process. What is asked of `admission`, the caller's scopes and the balance is asked for a hit too."""

    store: AnswerStore
    secret: bytes
    """At most 64 bytes; every gateway of an installation has the same."""
    directory: EndpointDirectory
    admission: Admission
    hold_gate: HoldGate
    usage_sink: UsageSink
    rater: Rater
    hold_ttl_s: float
    price_basis_points: int
    """What an answer costs when it is given again, of what it cost the first time."""
    limiter: RateLimiter | None = None
    """A hit counts as a request, and no tokens; None where nobody is limited."""
    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    """What would not be the same again."""
    _keeping: set[asyncio.Task[bool]] = field(default_factory=set)

    async def answered(
        self, visit: Visit, events: AsyncGenerator[InferenceEvent, None]
    ) -> AsyncGenerator[InferenceEvent, None]:
        """The answer that was kept, as `events` would be; else `events`, whose answer is kept when it ends well.

        Raises: for a hit what `Inference.run` raises of the caller and his money; else whatever `events` raises.
        """
        if not is_repeatable(visit.request):
            self.bypasses += 1
            async with aclosing(events):
                async for event in events:
                    yield replace(event, cache="bypass") if isinstance(event, Started) else event
            return
        visit.caller.require(KeyScope.INFERENCE)
        visit.caller.require_model(visit.request.reference.slug)
        self.admission.check(visit.caller)
        digest = request_digest(visit.request)
        answer = await self._found(visit, digest)
        replay = self._missed(visit, events, digest) if answer is None else self._hit(visit, answer)
        async with aclosing(events), aclosing(replay):
            async for event in replay:
                yield event

    async def drain(self) -> None:
        """Wait for answers on their way to Redis; each has a time limit of its own."""
        if self._keeping:
            await asyncio.wait(tuple(self._keeping))

    async def _found(self, visit: Visit, digest: bytes) -> CachedAnswer | None:
        """An answer of a revision that the request could be served by now, of a provider that still serves it."""
        servers = [each for each in self.directory.live(visit.request.reference.slug) if _serves(each, visit)]
        revisions = sorted({each.revision_digest for each in servers})[:REVISIONS_MAX]
        if not revisions:
            return None
        answer = await self.store.find([self._key(visit, revision, digest) for revision in revisions])
        if answer is None or not _is_vouched_for(answer, servers):
            return None
        return answer

    async def _hit(self, visit: Visit, answer: CachedAnswer) -> AsyncGenerator[InferenceEvent, None]:
        """Count it, and give it. Raises: RateLimited, and what `_given` raises."""
        allowance = None if self.limiter is None else await self.limiter.take(visit.caller, 0)
        try:
            async with aclosing(self._given(visit, answer)) as events:
                async for event in events:
                    yield event
        finally:
            if allowance is not None:
                allowance.settle(0)

    async def _given(self, visit: Visit, answer: CachedAnswer) -> AsyncGenerator[InferenceEvent, None]:
        """Hold its price, record it, hand it out. Raises: InsufficientFunds, Forbidden, Unavailable."""
        created_at, begun_at = clock.now(), asyncio.get_running_loop().time()
        parts = [
            resold(part, rater=self.rater, price_basis_points=self.price_basis_points)
            for part in answer.parts
        ]
        charge = sum((part.customer_amount for part in parts), ZERO)
        lease_id = await self._hold(visit, charge) if charge else None
        age_ms = int((asyncio.get_running_loop().time() - begun_at) * 1000)
        caller = visit.caller
        final = FinishedRequest(
            id=visit.id,
            organization_id=caller.organization_id,
            project_id=caller.project_id,
            api_key_id=caller.api_key_id,
            user_id=caller.user_id,
            surface=visit.surface.value,
            model_asked=visit.request.model,
            model_served=answer.model,
            state="completed",
            finish_reason=answer.finish_reason,
            error_code=None,
            streamed=visit.streamed,
            created_at=created_at,
            first_token_ms=age_ms,
            duration_ms=age_ms,
            attempts=(),
            usage=parts[0],
            more=tuple(parts[1:]),
            lease_id=lease_id,
        )
        # If this is not recorded in time, nothing is handed out or billed, and the hold ends by itself.
        await self.usage_sink.record(final)
        self.hits += 1
        yield Started(
            request_id=visit.id,
            created_at=created_at,
            model=answer.model,
            provider=answer.provider,
            revision=answer.revision,
            attempts=0,
            cache="hit",
        )
        for delta in answer.deltas if visit.streamed else (joined(answer.deltas),):
            yield delta
        yield Finished(
            finish_reason=answer.finish_reason,
            tokens_prompt=answer.tokens_prompt,
            tokens_completion=answer.tokens_completion,
            tokens_cached=answer.tokens_prompt,
            cost=charge,
            provider=answer.provider,
            attempts=0,
            record=final,
        )

    async def _hold(self, visit: Visit, amount: Money) -> UUID:
        caller = visit.caller
        return await self.hold_gate.hold(
            request_id=visit.id,
            organization_id=caller.organization_id,
            project_id=caller.project_id,
            api_key_id=caller.api_key_id,
            amount=amount,
            ttl_s=self.hold_ttl_s,
        )

    async def _missed(
        self, visit: Visit, events: AsyncGenerator[InferenceEvent, None], digest: bytes
    ) -> AsyncGenerator[InferenceEvent, None]:
        """`events`, with the answer kept if it ends well and is not too long."""
        self.misses += 1
        started: Started | None = None
        deltas: list[Delta] = []
        room = ANSWER_BYTES_MAX
        async for event in events:
            if isinstance(event, Delta):
                room -= _bytes_about(event)
                if room > 0:
                    deltas.append(event)
            elif isinstance(event, Started):
                started = replace(event, cache="miss")
                yield started
                continue
            elif isinstance(event, Finished) and started is not None:
                if room > 0:
                    self._keep(visit, started, deltas, event, digest)
                else:
                    self.store.unkept += 1
            yield event

    def _keep(
        self, visit: Visit, started: Started, deltas: Sequence[Delta], finished: Finished, digest: bytes
    ) -> None:
        """Begin to keep the answer; nobody waits for it."""
        parts: tuple[UsageEntry, ...] = () if finished.record is None else finished.record.parts
        if not parts:
            return
        if len(self._keeping) >= KEEPING_MAX:
            self.store.unkept += 1
            return
        answer = CachedAnswer(
            model=started.model,
            provider=finished.provider,
            revision=started.revision,
            finish_reason=finished.finish_reason,
            parts=parts,
            deltas=tuple(deltas),
        )
        self._later(
            self.store.keep(
                self._key(visit, started.revision, digest),
                answer,
                organization_id=visit.caller.organization_id,
                ttl_s=visit.ttl_s,
                now_s=int(clock.now().timestamp()),
            )
        )

    def _later(self, keeping: Coroutine[None, None, bool]) -> None:
        task = asyncio.get_running_loop().create_task(keeping)
        self._keeping.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[bool]) -> None:
        self._keeping.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("answer.keeping_failed", error=str(error), exc_info=error)

    def _key(self, visit: Visit, revision: str, digest: bytes) -> str:
        organization_id = visit.caller.organization_id
        return answer_key(self.secret, organization_id=organization_id, revision=revision, digest=digest)


def _bytes_about(delta: Delta) -> int:
    """What a piece takes in what is kept; its exact size is asked at the end."""
    return len(delta.text) + len(delta.reasoning) + 5 * len(delta.token_ids) + 200 * len(delta.logprobs or ())


def _serves(endpoint: LiveEndpoint, visit: Visit) -> bool:
    """Whether the request could be routed to the endpoint's revision."""
    if not endpoint.is_for(visit.caller.organization_id):
        return False
    asked = visit.request.reference.revision
    if asked is None:
        return endpoint.standing is not Standing.CANDIDATE
    return asked == endpoint.revision_digest or asked in endpoint.aliases


def _is_vouched_for(answer: CachedAnswer, servers: Collection[LiveEndpoint]) -> bool:
    """Whether all who delivered it still serve the revision: what a provider answered goes with it when it is banned."""
    serving = {(each.provider_id, each.revision_id) for each in servers}
    return all((part.provider_id, part.revision_id) in serving for part in answer.parts)
