"""What to do next with a part: a pure function of our rows and one look at the chain.

The marker decides. While no marker stands, any number of attempts may be in flight, for one of them at most can land; so
no answer of an endpoint, and no absence of one, can make this function pay twice. Money is booked as paid, or given back,
only over a marker that stands at finalized and whose transaction all endpoints show.

    marker stands   its transaction is not shown by all -> wait; held once no attempt can be it
                    not ours                            -> held; another generation once every attempt is dead
                    moves money to others than ours     -> held
                    pays all, some or none of the items -> settle those, give back or move on the rest
    disputed        some endpoints have it, some not    -> wait
    no marker       an attempt was seen                 -> wait
                    failed at a payee                   -> quarantine the payee, burn the marker
                    unseen, block height not over       -> send the same bytes again; raise the fee after a while
                    none is left                        -> a new attempt, up to the cap; then held
"""

from collections.abc import Sequence
from dataclasses import dataclass

from raymart_billing.payouts.models import AttemptState, PartState, Purpose
from raymart_billing.payouts.sending.facts import Attempt, Part
from raymart_billing.payouts.sending.rules import BLOCKS_VALID, SendingRules
from raymart_billing.payouts.sending.sights import Landing, Look, Stage, movable
from raymart_billing.solana.answers import Presence
from raymart_billing.solana.failures import TransactionFailure

MARKER_TAKEN = "the marker's address holds an account that somebody else created"
TOO_OLD = (
    "the batch is older than markers are kept, so an absent marker proves nothing; cancel and plan it anew"
)
UNREADABLE = "the marker stands and no attempt is alive, but the endpoints do not agree on its transaction"
DISPUTED = "the endpoints do not agree whether the marker stands"
UNKNOWN_PAID = "the landed transaction pays somebody whom this part does not know"
CAP_REACHED = "no attempt of {attempts} has landed; look at the endpoints and the fees, then release it"
NOT_ALLOWED = "its batch is held or payouts are paused; what is in flight is watched"
UNPROVEN = "the endpoints do not all show the landed transaction yet"
CONTRADICTED = "an endpoint says finalized, and no marker stands"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What became of one attempt."""

    number: int
    state: AttemptState
    error: TransactionFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Book what the landed transaction paid; give back what is quarantined; move the rest to a new part."""

    landing: Landing


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate:
    """Count up the generation: a stranger stands on the marker, and no attempt of this one can land any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Let a person look."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Do nothing but look again."""

    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send these attempts' bytes again, and sign another one beside them if their fee is to be raised."""

    numbers: Sequence[int]
    raise_fee: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Look at the accounts, and sign a new attempt if they are good."""


Step = Settle | Rotate | Hold | Wait | Send | Prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to write about the attempts, and what to do then."""

    step: Step
    resolutions: Sequence[Resolution] = ()
    failures: Sequence[Resolution] = ()
    """Those of the resolutions that landed with an error: somebody is to blame."""


def decide(part: Part, look: Look, rules: SendingRules) -> Decision:
    """The next step of `part` after `look`."""
    resolutions = [found for attempt in part.live if (found := fate(attempt, look)) is not None]
    resolved = {resolution.number for resolution in resolutions}
    alive = [attempt for attempt in part.live if attempt.number not in resolved]
    step = _step(part, look, alive, rules)
    failures = [one for one in resolutions if one.state is AttemptState.FAILED and one.error is not None]
    return Decision(step=step, resolutions=resolutions, failures=failures)


def fate(attempt: Attempt, look: Look) -> Resolution | None:
    """What became of `attempt`; None while it may still land, or while its landing is not proven.

    A height that is over is believed only because it was read before the status.
    """
    sight = look.sights[attempt.number]
    is_over = look.height > attempt.last_valid_block_height
    if sight.stage is Stage.FAILED:
        return Resolution(number=attempt.number, state=AttemptState.FAILED, error=sight.error)
    if sight.stage is Stage.SUCCEEDED and attempt.purpose is Purpose.OPEN:
        return Resolution(number=attempt.number, state=AttemptState.LANDED)
    if sight.stage is Stage.SEEN or not is_over:
        return None
    if sight.stage is not Stage.UNSEEN and look.marker is not Presence.ABSENT:
        return None
    # Unseen; or said to be finalized while no marker stands, which a height that is over makes a lie: the marker of what
    # landed before it would be seen. A new attempt is harmless in either case.
    return Resolution(number=attempt.number, state=AttemptState.EXPIRED)


def _step(part: Part, look: Look, alive: Sequence[Attempt], rules: SendingRules) -> Step:
    match look.marker:
        case Presence.PRESENT:
            return _marked(part, look, alive)
        case Presence.DISPUTED:
            return Wait(reason=DISPUTED)
        case Presence.ABSENT:
            return _unmarked(part, look, alive, rules)


def _marked(part: Part, look: Look, alive: Sequence[Attempt]) -> Step:
    """The marker stands: nothing of this generation can land any more, and what created it says what was paid."""
    landing = look.landing
    if landing is None:
        return Wait(reason=UNPROVEN) if alive else Hold(reason=UNREADABLE)
    if not landing.is_ours:
        return Hold(reason=MARKER_TAKEN) if alive else Rotate()
    if landing.unknown_micro_usdc:
        return Hold(reason=UNKNOWN_PAID)
    if movable(part, landing) and not part.may_sign:
        return Wait(reason=NOT_ALLOWED)  # What is left needs a new part, and a batch on hold gets none.
    return Settle(landing=landing)


def _unmarked(part: Part, look: Look, alive: Sequence[Attempt], rules: SendingRules) -> Step:
    """No marker stands: something may be in flight, or must be."""
    if part.state is PartState.HELD:
        return Wait(reason=part.reason)
    if any(look.sights[attempt.number].stage in (Stage.SUCCEEDED, Stage.CLAIMED) for attempt in alive):
        return Wait(reason=CONTRADICTED)
    if any(look.sights[attempt.number].stage is Stage.SEEN for attempt in alive):
        return Wait()
    if not part.may_sign:
        return Wait(reason=NOT_ALLOWED)
    return Hold(reason=TOO_OLD) if part.is_too_old else _sendable(part, look, alive, rules)


def _sendable(part: Part, look: Look, alive: Sequence[Attempt], rules: SendingRules) -> Step:
    """Nothing was seen, and what is in flight may be sent again, or followed by more."""
    same = [attempt for attempt in alive if attempt.purpose in (part.purpose, Purpose.OPEN)]
    if not same:
        return _fresh(part, rules)
    raise_fee = _is_due_for_more(same, look, rules) and part.attempts < rules.attempts_max
    return Send(numbers=[attempt.number for attempt in same], raise_fee=raise_fee)


def _fresh(part: Part, rules: SendingRules) -> Step:
    """Nothing is in flight that could do what is to be done."""
    if part.attempts >= rules.attempts_max:
        return Hold(reason=CAP_REACHED.format(attempts=part.attempts))
    return Prepare()


def _is_due_for_more(alive: Sequence[Attempt], look: Look, rules: SendingRules) -> bool:
    """Whether the youngest attempt has gone unseen for so many blocks that its fee must be too low.

    Openings wait for their expiry: they are not urgent, and a sibling would pay twice for nothing.
    """
    if any(attempt.purpose is Purpose.OPEN for attempt in alive):
        return False
    youngest = max(attempt.last_valid_block_height for attempt in alive)
    return look.height - (youngest - BLOCKS_VALID) >= rules.bump_after_blocks
