"""The decision over every kind of part and every kind of look, and the few cases that have a name."""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, product
from uuid import UUID

import pytest

from raymart_billing.payouts.models import AttemptState, BatchKind, PartState, Purpose
from raymart_billing.payouts.sending import decision
from raymart_billing.payouts.sending.decision import Hold, Prepare, Rotate, Send, Settle, Wait, decide
from raymart_billing.payouts.sending.facts import Attempt, Part, Payee
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.payouts.sending.sights import Landing, Look, Sight, Stage
from raymart_billing.solana.answers import Presence
from raymart_billing.solana.failures import read_failure

RULES = SendingRules(attempts_max=3, bump_after_blocks=40)
VALID_UNTIL = 1_000
YOUNG, DUE, LAST, OVER = 860, 890, 1_000, 1_001
"""Heights: just signed, unseen for 40 blocks, the last at which it can land, and one more."""
FAILURE = read_failure({"InstructionError": [0, {"Custom": 0}]})
ITEMS = [UUID(int=number) for number in range(2)]


def payee(number: int, *, is_quarantined: bool = False) -> Payee:
    return Payee(
        item_id=ITEMS[number],
        wallet=f"wallet{number}",
        token_account=f"account{number}",
        amount_micro_usdc=10,
        is_quarantined=is_quarantined,
    )


def attempt(number: int = 1, purpose: Purpose = Purpose.PAY, valid_until: int = VALID_UNTIL) -> Attempt:
    return Attempt(
        number=number,
        purpose=purpose,
        signature=f"signature{number}",
        raw=b"raw",
        last_valid_block_height=valid_until,
        priority_fee_lamports=0,
    )


def part(
    live: Sequence[Attempt] = (),
    *,
    state: PartState = PartState.SUBMITTED,
    may_sign: bool = True,
    is_too_old: bool = False,
    attempts: int = 1,
    is_quarantined: bool = False,
) -> Part:
    return Part(
        id=UUID(int=7),
        batch_id=UUID(int=8),
        batch_number=1,
        kind=BatchKind.EARNINGS,
        fence=1,
        generation=0,
        state=state,
        reason=None,
        attempts=attempts,
        openings=0,
        number_next=attempts + 1,
        resolved=(),
        may_sign=may_sign,
        is_too_old=is_too_old,
        payees=[payee(0), payee(1, is_quarantined=is_quarantined)],
        live=live,
    )


def landing(*, is_ours: bool = True, unknown: int = 0, paid: Sequence[UUID] = ITEMS) -> Landing:
    return Landing(
        signature="landed", slot=5, fee_lamports=5_000, is_ours=is_ours, paid=paid, unknown_micro_usdc=unknown
    )


def look(
    *stages: Stage, height: int = YOUNG, marker: Presence = Presence.ABSENT, landing: Landing | None = None
) -> Look:
    sights = {
        number: Sight(stage=stage, error=FAILURE if stage is Stage.FAILED else None)
        for number, stage in enumerate(stages, start=1)
    }  # fmt: skip
    return Look(height=height, sights=sights, marker=marker, landing=landing)


LANDINGS = [
    (Presence.ABSENT, None),
    (Presence.DISPUTED, None),
    (Presence.PRESENT, None),
    (Presence.PRESENT, landing()),
    (Presence.PRESENT, landing(paid=ITEMS[:1])),
    (Presence.PRESENT, landing(paid=())),
    (Presence.PRESENT, landing(is_ours=False, paid=())),
    (Presence.PRESENT, landing(unknown=1)),
]


def every_case() -> Iterator[tuple[Part, Look]]:
    """Each state by permission by age by quarantine by counter by up to two attempts of any purpose and stage by height by marker."""
    lives: list[tuple[tuple[Purpose, Stage], ...]] = [()]
    kinds = list(product(Purpose, Stage))
    lives += [(one,) for one in kinds] + list(combinations_with_replacement(kinds, 2))
    open_states = (PartState.PLANNED, PartState.SUBMITTED, PartState.HELD)
    for live, height, (marker, landed) in product(lives, (YOUNG, DUE, OVER), LANDINGS):
        seen = look(*(stage for _, stage in live), height=height, marker=marker, landing=landed)
        attempts = [attempt(number, purpose) for number, (purpose, _) in enumerate(live, start=1)]
        for state, may_sign, old, quarantined, count in product(
            open_states, (True, False), (True, False), (True, False), (0, 3)
        ):
            yield (
                part(
                    attempts,
                    state=state,
                    may_sign=may_sign,
                    is_too_old=old,
                    attempts=count,
                    is_quarantined=quarantined,
                ),
                seen,
            )


class TestEveryCase:
    def test_no_case_breaks_a_rule_of_money(self):
        """One walk over all of them; each rule is one that a payout made twice, or lost, would have to break."""
        cases = 0
        for given, seen in every_case():
            cases += 1
            decided = decide(given, seen, RULES)
            said = (given, seen, decided)
            resolved = {one.number: one.state for one in decided.resolutions}
            alive = [one for one in given.live if one.number not in resolved]
            check_bookings(given, seen, decided, alive, said)
            check_signing(given, seen, decided, said)
            check_sending(given, seen, decided, alive, said)
            check_resolutions(given, seen, resolved, said)
        assert cases > 90_000


def check_bookings(given, seen, decided, alive, said):
    if isinstance(decided.step, Settle):
        assert seen.marker is Presence.PRESENT, said
        assert seen.landing is decided.step.landing, said
        assert seen.landing.is_ours, said
        assert not seen.landing.unknown_micro_usdc, said
        moves = {one.item_id for one in given.payees if not one.is_quarantined} - set(seen.landing.paid)
        assert given.may_sign or not moves, said
    if isinstance(decided.step, Rotate):
        assert seen.marker is Presence.PRESENT, said
        assert seen.landing is not None, said
        assert not seen.landing.is_ours, said
        assert not alive, said


def check_signing(given, seen, decided, said):
    signs = isinstance(decided.step, Prepare) or (isinstance(decided.step, Send) and decided.step.raise_fee)
    if signs:
        assert seen.marker is Presence.ABSENT, said
        assert given.may_sign, said
        assert not given.is_too_old, said
        assert given.state is not PartState.HELD, said
        assert given.attempts < RULES.attempts_max, said


def check_sending(given, seen, decided, alive, said):
    if isinstance(decided.step, Send):
        assert given.may_sign, said
        assert decided.step.numbers, said
        for number in decided.step.numbers:
            (sent,) = [one for one in alive if one.number == number]
            assert seen.sights[number].stage is Stage.UNSEEN, said
            assert sent.purpose is not Purpose.PAY or given.purpose is Purpose.PAY, said


def check_resolutions(given, seen, resolved, said):
    for one in given.live:
        state, stage = resolved.get(one.number), seen.sights[one.number].stage
        if state is AttemptState.EXPIRED:
            assert seen.height > one.last_valid_block_height, said
            lied = stage in (Stage.SUCCEEDED, Stage.CLAIMED) and seen.marker is Presence.ABSENT
            assert stage is Stage.UNSEEN or lied, said
        if state is AttemptState.LANDED:
            assert one.purpose is Purpose.OPEN, said
            assert stage is Stage.SUCCEEDED, said
        assert (state is AttemptState.FAILED) == (stage is Stage.FAILED), said


class TestBeforeTheFirstAttempt:
    def test_planned_part_is_prepared(self):
        assert isinstance(decide(part(state=PartState.PLANNED, attempts=0), look(), RULES).step, Prepare)

    def test_rows_lost_and_marker_standing_settles_without_signing(self):
        """The database came back from a backup: no attempt is known, and the chain has paid."""
        step = decide(
            part(state=PartState.PLANNED, attempts=0), look(marker=Presence.PRESENT, landing=landing()), RULES
        ).step
        assert step == Settle(landing=landing())

    def test_batch_on_hold_waits(self):
        assert decide(part(may_sign=False), look(), RULES).step == Wait(reason=decision.NOT_ALLOWED)

    def test_batch_older_than_markers_are_kept_is_held(self):
        assert decide(part(is_too_old=True), look(), RULES).step == Hold(reason=decision.TOO_OLD)


class TestInFlight:
    @pytest.mark.parametrize("height", [YOUNG, LAST])
    def test_unseen_attempt_is_sent_again_until_its_last_block(self, height):
        step = decide(part([attempt()], attempts=3), look(Stage.UNSEEN, height=height), RULES).step
        assert step == Send(numbers=[1])

    def test_unseen_attempt_expires_after_its_last_block(self):
        decided = decide(part([attempt()]), look(Stage.UNSEEN, height=OVER), RULES)
        assert [(one.number, one.state) for one in decided.resolutions] == [(1, AttemptState.EXPIRED)]
        assert isinstance(decided.step, Prepare)

    @pytest.mark.parametrize("height", [YOUNG, DUE, LAST, OVER, OVER + 10_000])
    def test_seen_attempt_is_waited_for_whatever_the_height(self, height):
        decided = decide(part([attempt()]), look(Stage.SEEN, height=height), RULES)
        assert decided.step == Wait()
        assert decided.resolutions == []

    def test_fee_is_raised_before_expiry_when_nobody_has_seen_it(self):
        early = decide(part([attempt()]), look(Stage.UNSEEN, height=DUE - 1), RULES).step
        due = decide(part([attempt()]), look(Stage.UNSEEN, height=DUE), RULES).step
        assert (early, due) == (Send(numbers=[1]), Send(numbers=[1], raise_fee=True))

    def test_fee_is_not_raised_again_while_the_sibling_is_young(self):
        both = part([attempt(1), attempt(2, valid_until=VALID_UNTIL + 40)], attempts=2)
        assert decide(both, look(Stage.UNSEEN, Stage.UNSEEN, height=DUE), RULES).step == Send(numbers=[1, 2])

    def test_paused_part_is_watched_and_not_sent(self):
        step = decide(part([attempt()], may_sign=False), look(Stage.UNSEEN), RULES).step
        assert step == Wait(reason=decision.NOT_ALLOWED)

    def test_cap_is_reached_only_when_no_attempt_is_alive(self):
        alive = decide(part([attempt()], attempts=3), look(Stage.UNSEEN, height=DUE), RULES).step
        dead = decide(part([attempt()], attempts=3), look(Stage.UNSEEN, height=OVER), RULES).step
        assert alive == Send(numbers=[1])
        assert dead == Hold(reason=decision.CAP_REACHED.format(attempts=3))


class TestLanded:
    def test_finalized_and_marker_and_proof_settle(self):
        step = decide(
            part([attempt()]), look(Stage.SUCCEEDED, marker=Presence.PRESENT, landing=landing()), RULES
        ).step
        assert step == Settle(landing=landing())

    @pytest.mark.parametrize("stage", [Stage.UNSEEN, Stage.SUCCEEDED, Stage.CLAIMED])
    @pytest.mark.parametrize("height", [YOUNG, OVER])
    def test_marker_that_some_endpoints_have_and_some_have_not_waits(self, stage, height):
        step = decide(part([attempt()]), look(stage, height=height, marker=Presence.DISPUTED), RULES).step
        assert step == Wait(reason=decision.DISPUTED)

    def test_burnt_marker_waits_while_its_payees_can_get_no_new_part(self):
        held = part(may_sign=False, is_quarantined=True)
        burnt = look(marker=Presence.PRESENT, landing=landing(paid=()))
        assert decide(held, burnt, RULES).step == Wait(reason=decision.NOT_ALLOWED)

    def test_false_finalized_does_not_settle(self):
        assert decide(part([attempt()]), look(Stage.SUCCEEDED), RULES).step == Wait(
            reason=decision.CONTRADICTED
        )

    def test_false_finalized_is_signed_again_once_the_height_is_over(self):
        decided = decide(part([attempt()]), look(Stage.SUCCEEDED, height=OVER), RULES)
        assert decided.resolutions[0].state is AttemptState.EXPIRED
        assert isinstance(decided.step, Prepare)

    def test_marker_without_enough_proof_waits_while_an_attempt_may_be_it(self):
        assert decide(part([attempt()]), look(Stage.SUCCEEDED, marker=Presence.PRESENT), RULES).step == Wait(
            reason=decision.UNPROVEN
        )

    def test_marker_without_proof_and_without_attempts_is_held(self):
        assert decide(part(), look(marker=Presence.PRESENT), RULES).step == Hold(reason=decision.UNREADABLE)

    def test_held_part_still_settles(self):
        held = part([attempt()], state=PartState.HELD, attempts=3)
        assert isinstance(
            decide(held, look(Stage.SUCCEEDED, marker=Presence.PRESENT, landing=landing()), RULES).step,
            Settle,
        )

    def test_landing_that_pays_a_stranger_is_held(self):
        step = decide(part(), look(marker=Presence.PRESENT, landing=landing(unknown=1)), RULES).step
        assert step == Hold(reason=decision.UNKNOWN_PAID)


class TestMarkerTakenByAStranger:
    TAKEN = landing(is_ours=False, paid=())

    @pytest.mark.parametrize("stage", [Stage.UNSEEN, Stage.SEEN])
    def test_held_while_an_attempt_is_alive(self, stage):
        step = decide(part([attempt()]), look(stage, marker=Presence.PRESENT, landing=self.TAKEN), RULES).step
        assert step == Hold(reason=decision.MARKER_TAKEN)

    def test_rotated_when_every_attempt_is_dead(self):
        seen = look(Stage.UNSEEN, height=OVER, marker=Presence.PRESENT, landing=self.TAKEN)
        assert decide(part([attempt()], state=PartState.HELD), seen, RULES).step == Rotate()

    def test_attempt_that_failed_at_the_marker_is_dead(self):
        seen = look(Stage.FAILED, marker=Presence.PRESENT, landing=self.TAKEN)
        assert decide(part([attempt()]), seen, RULES).step == Rotate()


class TestQuarantine:
    def test_failed_attempt_is_told_with_its_error(self):
        decided = decide(part([attempt()]), look(Stage.FAILED), RULES)
        assert [(one.number, one.state) for one in decided.failures] == [(1, AttemptState.FAILED)]
        assert decided.failures[0].error == FAILURE

    def test_attempt_that_pays_is_not_sent_again_and_the_marker_is_burnt(self):
        waiting = part([attempt()], is_quarantined=True)
        assert waiting.purpose is Purpose.BURN
        assert isinstance(decide(waiting, look(Stage.UNSEEN), RULES).step, Prepare)

    def test_burning_attempt_is_sent_again(self):
        burning = part([attempt(), attempt(2, Purpose.BURN)], is_quarantined=True)
        assert decide(burning, look(Stage.UNSEEN, Stage.UNSEEN), RULES).step == Send(numbers=[2])

    def test_burnt_marker_settles_with_nobody_paid(self):
        burnt = landing(paid=())
        seen = look(Stage.SUCCEEDED, marker=Presence.PRESENT, landing=burnt)
        assert decide(
            part([attempt(1, Purpose.BURN)], is_quarantined=True), seen, RULES
        ).step == Settle(landing=burnt)  # fmt: skip

    def test_payment_that_was_faster_than_the_burning_settles(self):
        paid = landing()
        seen = look(Stage.SUCCEEDED, Stage.UNSEEN, marker=Presence.PRESENT, landing=paid)
        given = part([attempt(), attempt(2, Purpose.BURN)], is_quarantined=True)
        assert decide(given, seen, RULES).step == Settle(landing=paid)


class TestOpening:
    def test_landed_opening_leads_to_the_payment(self):
        decided = decide(
            part([attempt(1, Purpose.OPEN)], state=PartState.PLANNED), look(Stage.SUCCEEDED), RULES
        )
        assert decided.resolutions[0].state is AttemptState.LANDED
        assert isinstance(decided.step, Prepare)

    def test_unseen_opening_is_sent_again_and_never_raised(self):
        given = part([attempt(1, Purpose.OPEN)], state=PartState.PLANNED)
        assert decide(given, look(Stage.UNSEEN, height=DUE), RULES).step == Send(numbers=[1])
