from uuid import UUID

from raymart_marketplace.supply.quarantine import Quarantine

ENDPOINT = UUID(int=1)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class TestQuarantine:
    def setup_method(self):
        self.clock = Clock()
        self.quarantine = Quarantine(clock=self.clock)

    def test_periods_double_from_two_seconds_to_sixty(self):
        periods = []
        for _ in range(8):
            periods.append(self.quarantine.fail(ENDPOINT))
            self.clock.now += periods[-1]
        assert periods == [2, 4, 8, 16, 32, 60, 60, 60]

    def test_failures_in_flight_together_count_once(self):
        assert [self.quarantine.fail(ENDPOINT) for _ in range(50)] == [2.0] + [0.0] * 49

    def test_it_lapses(self):
        self.quarantine.fail(ENDPOINT)
        self.clock.now = 1.99
        assert self.quarantine.holds(ENDPOINT)
        self.clock.now = 2.0
        assert not self.quarantine.holds(ENDPOINT)

    def test_a_success_after_it_lapsed_starts_over(self):
        self.quarantine.fail(ENDPOINT)
        self.clock.now = 2.0
        self.quarantine.succeed(ENDPOINT)
        assert self.quarantine.fail(ENDPOINT) == 2.0

    def test_a_success_while_it_runs_does_not_end_it(self):
        self.quarantine.fail(ENDPOINT)
        self.quarantine.succeed(ENDPOINT)
        assert self.quarantine.holds(ENDPOINT)
        self.clock.now = 2.0
        assert self.quarantine.fail(ENDPOINT) == 4.0

    def test_old_failures_are_forgotten(self):
        self.quarantine.fail(ENDPOINT)
        self.clock.now = 1_000.0
        self.quarantine.fail(UUID(int=2))
        assert self.quarantine.fail(ENDPOINT) == 2.0
        assert len(self.quarantine._strikes) == 2
