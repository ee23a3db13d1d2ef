"""Closed, open, half-open: when requests go through, and what is learnt from them."""

from raymart_marketplace.supply.breaker import MEMORY_S, Breaker, BreakerState


class TestBreaker:
    def setup_method(self):
        self.breaker = Breaker()

    def fail(self, now, began_at=None):
        return self.breaker.fail(now, began_at=now if began_at is None else began_at)

    def test_it_opens_for_two_seconds_which_double_to_sixty(self):
        now, periods = 0.0, []
        for _ in range(8):
            periods.append(self.fail(now))
            now += periods[-1]
        assert periods == [2, 4, 8, 16, 32, 60, 60, 60]

    def test_a_thousand_failures_are_no_overflow(self):
        assert {self.fail(now * 60.0) for now in range(7, 2_000)} == {2, 4, 8, 16, 32, 60}

    def test_failures_that_ran_together_count_once(self):
        assert [self.fail(5.0, began_at=4.0) for _ in range(50)] == [2.0] + [0.0] * 49
        assert self.fail(9.0, began_at=4.9) == 0.0, "however late it comes"
        assert self.fail(9.0, began_at=8.0) == 4.0

    def test_it_refuses_while_open_and_lets_one_at_a_time_try_after(self):
        self.fail(0.0)
        assert self.breaker.state(1.99) is BreakerState.OPEN
        assert self.breaker.refuses(1.99)
        assert self.breaker.state(2.0) is BreakerState.HALF_OPEN
        assert not self.breaker.refuses(2.0)
        assert self.breaker.enter(2.0)
        assert self.breaker.refuses(2.1), "one tries it"
        assert not self.breaker.enter(2.1)
        self.breaker.leave()
        assert not self.breaker.refuses(2.2), "it left without an end, good or bad"

    def test_a_good_try_closes_it_and_forgets(self):
        self.fail(0.0)
        assert self.breaker.enter(2.0)
        self.breaker.succeed(2.5)
        self.breaker.leave()
        assert self.breaker.state(2.5) is BreakerState.CLOSED
        assert not self.breaker.refuses(2.5)
        assert self.fail(3.0) == 2.0

    def test_a_bad_try_opens_it_for_longer(self):
        self.fail(0.0)
        assert self.breaker.enter(2.0)
        assert self.fail(2.5, began_at=2.0) == 4.0
        self.breaker.leave()
        assert self.breaker.refuses(6.4)
        assert not self.breaker.refuses(6.5)

    def test_a_success_while_it_is_open_is_of_before_and_says_nothing(self):
        self.fail(0.0)
        self.breaker.succeed(1.0)
        assert self.breaker.refuses(1.0)
        assert self.fail(2.0) == 4.0

    def test_nobody_tries_what_is_closed(self):
        assert not self.breaker.enter(0.0)
        assert not self.breaker.refuses(0.0)

    def test_old_failures_are_forgotten(self):
        self.fail(0.0)
        assert self.fail(2.0 + MEMORY_S) == 4.0
        assert self.fail(2.0 + MEMORY_S + 4.0 + MEMORY_S + 0.1) == 2.0
