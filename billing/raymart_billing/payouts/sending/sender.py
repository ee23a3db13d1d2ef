"""A round of sending: lease the parts that are open, look at the chain once for all of them, and take one step with each.

A round is short and leaves nothing in memory: what it has done is in rows, and the next one, of any process, goes on from
there. Many parts are therefore in flight at once though each needs 13 s until it is final. No transaction is open while
the chain is asked.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from raymart_billing.payouts.models import PartState
from raymart_billing.payouts.sending import standing
from raymart_billing.payouts.sending.attempts import NotAllowed, mark_submitted, resolve
from raymart_billing.payouts.sending.blame import blame
from raymart_billing.payouts.sending.booking import Bookings
from raymart_billing.payouts.sending.claims import Claim, claim, lock, release
from raymart_billing.payouts.sending.decision import (
    MARKER_TAKEN,
    NOT_ALLOWED,
    Decision,
    Hold,
    Prepare,
    Resolution,
    Rotate,
    Send,
    Settle,
    Wait,
    decide,
)
from raymart_billing.payouts.sending.facts import Part
from raymart_billing.payouts.sending.failpoints import Failpoint, Failpoints, NoFailpoints
from raymart_billing.payouts.sending.loading import load
from raymart_billing.payouts.sending.observing import observe, prove
from raymart_billing.payouts.sending.preparing import Preparing
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.payouts.sending.settling import finish_batches, settle
from raymart_billing.payouts.sending.sights import Look
from raymart_billing.payouts.sending.supplies import Supplies
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.errors import RpcError, SigningRefused
from raymart_billing.solana.failures import Cause
from raymart_billing.work import LeaseLost
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round came to."""

    parts: int
    """How many were looked at."""
    steps: Mapping[str, int]
    """How many of each kind of step were taken."""


class Sender:
    """Sends the parts of approved batches. Any number of senders may run: of one part, at most one transaction lands."""

    def __init__(
        self,
        sessions: Sessions,
        chain: Chain,
        *,
        bookings: Bookings,
        rules: SendingRules | None = None,
        failpoints: Failpoints | None = None,
    ) -> None:
        self._sessions = sessions
        self._chain = chain
        self._bookings = bookings
        self._rules = rules or SendingRules()
        self._failpoints = failpoints or NoFailpoints()

    async def round(self, part_id: UUID | None = None) -> Round:
        """Take one step with each part that is open and nobody else's, or with `part_id` alone.

        What cannot be done now, because the chain does not answer or the lease was lost, is left for the next round.
        """
        async with session_scope(self._sessions) as session:
            claims = await claim(
                session, parts_max=self._rules.parts_max, lease_s=self._rules.lease_s, part_id=part_id
            )
            if not claims:
                # Who settled the last part may have died before it came to this.
                await finish_batches(session)
        if not claims:
            return Round(parts=0, steps={})
        self._failpoints.hit(Failpoint.AFTER_CLAIM)
        preparing = Preparing(
            sessions=self._sessions, chain=self._chain, rules=self._rules, failpoints=self._failpoints
        )
        taken = _Taken(preparing=preparing)
        try:
            async with session_scope(self._sessions) as session:
                parts = await load(session, claims, self._rules)
            looks = await observe(self._chain, parts)
            await self._step_all(parts, looks, taken)
        except RpcError as error:
            # Not evidence of anything: every part stays where it is.
            log.warning("payout.chain_unavailable", error=error.message)
        finally:
            await self._release(claims, taken)
        return Round(parts=len(claims), steps=taken.steps)

    async def _step_all(self, parts: Sequence[Part], looks: Mapping[UUID, Look], taken: "_Taken") -> None:
        """One step with each part, many at once: one is being proven while another is written."""
        preparing = [part.id for part in parts if _prepares(decide(part, looks[part.id], self._rules))]
        supplies = Supplies(self._sessions, self._chain, preparing)
        places = asyncio.Semaphore(self._rules.acting_max)

        async def step(part: Part) -> bool:
            async with places:
                look = await prove(self._chain, part, looks[part.id], self._rules)
                decision = decide(part, look, self._rules)
                taken.steps[type(decision.step).__name__.lower()] += 1
                return await self._act(part, decision, supplies, taken.preparing)

        results = await asyncio.gather(*(step(part) for part in parts), return_exceptions=True)
        for part, result in zip(parts, results, strict=True):
            if _told(part, result) if isinstance(result, BaseException) else result:
                taken.resting.add(part.id)

    async def _act(self, part: Part, decision: Decision, supplies: Supplies, preparing: Preparing) -> bool:
        """Take the step; true when there is no hurry to look at the part again."""
        if isinstance(decision.step, Settle):
            await self._settle(part, decision.step, decision.resolutions)
            return False
        if decision.resolutions and await self._resolve(part, decision, supplies):
            return False
        match decision.step:
            case Send() as step:
                return await self._send(part, step, supplies, preparing)
            case Prepare():
                return not await preparing.prepare(part, await supplies.get())
            case Hold() | Rotate() | Wait() as step:
                return await self._stay(part, step)

    async def _stay(self, part: Part, step: Hold | Rotate | Wait) -> bool:
        """Write down where the part stands; nothing is sent."""
        match step:
            case Hold(reason=reason):
                await self._stand(part, standing.hold, reason)
                return True
            case Rotate():
                await self._stand(part, standing.rotate, MARKER_TAKEN)
                return False
            case Wait(reason=reason):
                if reason is not None and reason != part.reason:
                    await self._stand(part, standing.note, reason)
                return part.state is PartState.HELD or reason == NOT_ALLOWED

    async def _settle(self, part: Part, step: Settle, resolutions: Sequence[Resolution]) -> None:
        self._failpoints.hit(Failpoint.BEFORE_SETTLE)
        marker = str(self._chain.marker(part.id, part.generation).address)
        async with session_scope(self._sessions) as session:
            await settle(session, part, step.landing, resolutions, marker=marker, bookings=self._bookings)
            self._failpoints.hit(Failpoint.BEFORE_SETTLE_COMMIT)
        self._failpoints.hit(Failpoint.AFTER_SETTLE)

    async def _resolve(self, part: Part, decision: Decision, supplies: Supplies) -> bool:
        """Write what became of attempts; true when a payee was to blame, which changes what is to be done next."""
        reasons: dict[UUID, str] = {}
        purposes = {attempt.number: attempt.purpose for attempt in part.live}
        for failure in decision.failures:
            assert failure.error is not None
            found = blame(part, purposes[failure.number], failure.error, version=self._chain.version)
            log.warning(
                "payout.attempt_failed",
                part_id=str(part.id),
                number=failure.number,
                cause=found.cause.value,
                error=failure.error.text,
            )
            # A frozen treasury fails the first transfer of every part; no payee is to blame for it.
            if found.cause is not Cause.ACCOUNT_FROZEN or not (await supplies.get()).is_treasury_frozen:
                reasons |= found.quarantined
        async with session_scope(self._sessions) as session:
            await lock(session, part.claim)
            await resolve(session, part, decision.resolutions)
            await standing.quarantine(session, part, reasons)
        if reasons:
            self._failpoints.hit(Failpoint.AFTER_QUARANTINE)
        return bool(reasons)

    async def _send(self, part: Part, step: Send, supplies: Supplies, preparing: Preparing) -> bool:
        raws = {attempt.number: attempt.raw for attempt in part.live}
        for number in step.numbers:
            await self._chain.rpc.broadcast(raws[number])
        self._failpoints.hit(Failpoint.AFTER_REBROADCAST)
        preparing.sent.append(part.claim)
        return step.raise_fee and not await preparing.prepare(part, await supplies.get())

    async def _stand(self, part: Part, write: standing.Write, reason: str) -> None:
        async with session_scope(self._sessions) as session:
            await lock(session, part.claim)
            await write(session, part, reason)

    async def _release(self, claims: Sequence[Claim], taken: "_Taken") -> None:
        resting = [one for one in claims if one.part_id in taken.resting]
        others = [one for one in claims if one.part_id not in taken.resting]
        async with session_scope(self._sessions) as session:
            await mark_submitted(session, taken.preparing.sent)
            await finish_batches(session)
            await release(session, others)
            await release(session, resting, pause_s=self._rules.pause_s)


@dataclass(slots=True)
class _Taken:
    """What a round has done so far."""

    preparing: Preparing
    steps: Counter[str] = field(default_factory=Counter)
    resting: set[UUID] = field(default_factory=set)
    """Parts that can be looked at less often."""


def _prepares(decision: Decision) -> bool:
    """Whether a new attempt will be made. Proof cannot change that: where a marker stands nothing is signed."""
    return isinstance(decision.step, Prepare)


def _told(part: Part, error: BaseException) -> bool:
    """Log one part's trouble, which is its own: the others have been served. True when it takes a person to end it."""
    match error:
        case RpcError():
            log.warning("payout.chain_unavailable", part_id=str(part.id), error=error.message)
            return False
        case NotAllowed() | LeaseLost():
            log.info("payout.step_refused", part_id=str(part.id), reason=str(error))
            return True
        case SigningRefused():
            log.error("payout.signing_refused", part_id=str(part.id), error=error.message)
            return True
        case _:
            raise error
