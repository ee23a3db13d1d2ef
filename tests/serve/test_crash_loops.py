"""When a placement is left alone, and when it is forgiven."""

from datetime import UTC, datetime

import pytest

from raymart_serve.crash_loops import DEATHS, PAUSE_S, PAUSE_S_MAX, YOUNG_S, CrashLoops
from support.fixed_clock import FixedClock

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
P = "plc-1"


class Life:
    """One placement, watched second by second."""

    def __init__(self) -> None:
        self.loops = CrashLoops(FixedClock(NOW))
        self.now = 0.0
        self.born = 0

    def see(self, *states: tuple[str, str], target: int = 1, message: str = "") -> None:
        self.now += 1.0
        self.loops.seen(P, replicas=dict(states), target=target, message=message, now=self.now)

    def one_dies(self, *, ran_s: float = 1.0, loads: bool = False) -> None:
        """A replica starts, runs for a while unless it `loads` only, and is gone."""
        self.born += 1
        name = f"r{self.born}"
        self.see((name, "STARTING"))
        if not loads:
            self.see((name, "RUNNING"))
            self.now += ran_s - 1.0
        self.see()

    @property
    def is_paused(self) -> bool:
        return P in self.loops.paused(now=self.now)

    def pause_s(self) -> float:
        """Wait until the pause is over."""
        began = self.now
        while self.is_paused:
            self.now += 1.0
        return self.now - began


@pytest.fixture
def life() -> Life:
    return Life()


class TestPauses:
    def test_deaths_soon_after_the_start_lead_to_a_pause(self, life: Life) -> None:
        for _ in range(DEATHS - 1):
            life.one_dies()
        assert not life.is_paused
        life.one_dies()
        assert life.is_paused
        assert life.loops.restarts(P) == DEATHS

    def test_replicas_that_never_got_ready_count(self, life: Life) -> None:
        for _ in range(DEATHS):
            life.one_dies(loads=True)
        assert life.is_paused

    def test_each_pause_is_twice_as_long_up_to_a_limit(self, life: Life) -> None:
        pauses = []
        for _ in range(DEATHS - 1):
            life.one_dies()
        for _ in range(9):
            life.one_dies()
            pauses.append(life.pause_s())
        expected = [min(PAUSE_S_MAX, PAUSE_S * 2**number) for number in range(9)]
        assert pauses == pytest.approx(expected, abs=1.0)
        assert pauses[-1] == pytest.approx(PAUSE_S_MAX, abs=1.0)

    def test_the_reason_says_how_often_why_and_when_next(self, life: Life) -> None:
        for _ in range(DEATHS - 1):
            life.one_dies()
        life.see(("x", "STARTING"), message="RuntimeError: out of memory")
        life.see()
        assert life.loops.paused(now=life.now)[P] == (
            "crash loop: 3 replicas died soon after their start; next try at 06:00:10 UTC, "
            "last: RuntimeError: out of memory"
        )

    def test_what_is_seen_during_a_pause_changes_nothing(self, life: Life) -> None:
        for _ in range(DEATHS):
            life.one_dies()
        life.one_dies()
        assert life.loops.restarts(P) == DEATHS


class TestForgiven:
    def test_a_replica_that_lives_clears_the_placement(self, life: Life) -> None:
        for _ in range(DEATHS - 1):
            life.one_dies()
        life.one_dies(ran_s=YOUNG_S + 1)
        for _ in range(DEATHS - 1):
            life.one_dies()
        assert not life.is_paused

    def test_one_that_lives_beside_those_that_die_keeps_the_placement(self, life: Life) -> None:
        """A crash of one replica in many is Serve's to mend."""
        life.see(("old", "RUNNING"), target=2)
        life.now += YOUNG_S
        for number in range(2 * DEATHS):
            life.see(("old", "RUNNING"), (f"r{number}", "RUNNING"), target=2)
        assert not life.is_paused
        assert life.loops.restarts(P) == 2 * DEATHS - 1

    def test_after_a_good_life_pauses_start_short_again(self, life: Life) -> None:
        for _ in range(DEATHS + 3):
            life.one_dies()
            life.pause_s()
        life.one_dies(ran_s=YOUNG_S + 5)
        life.see(("good", "RUNNING"))
        life.now += YOUNG_S
        life.see(("good", "RUNNING"))
        life.see()
        for _ in range(DEATHS):
            life.one_dies()
        assert life.pause_s() == pytest.approx(PAUSE_S, abs=1.0)

    def test_another_placement_of_the_same_name_is_not_blamed(self, life: Life) -> None:
        for _ in range(DEATHS):
            life.one_dies()
        life.loops.changed(P)
        assert not life.is_paused
        assert life.loops.restarts(P) == 0

    def test_placements_that_are_gone_are_forgotten(self, life: Life) -> None:
        for _ in range(DEATHS):
            life.one_dies()
        life.loops.keep(["plc-2"])
        assert not life.is_paused


class TestNoDeaths:
    def test_a_smaller_target_takes_replicas_away(self, life: Life) -> None:
        for _ in range(5):
            life.see(("a", "RUNNING"), ("b", "RUNNING"), target=2)
            life.see(("a", "RUNNING"), ("b", "STOPPING"), target=1)
            life.see(("a", "RUNNING"), target=1)
        life.see(target=0)
        assert life.loops.restarts(P) == 0

    def test_a_replica_that_stops_unasked_is_a_death_once(self, life: Life) -> None:
        """Serve stops one that fails its health checks, and starts another."""
        life.see(("a", "RUNNING"))
        life.see(("a", "STOPPING"), ("b", "STARTING"))
        life.see(("b", "RUNNING"))
        assert life.loops.restarts(P) == 1
