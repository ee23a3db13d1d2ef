"""Retries never multiply an outage."""

from raymart_marketplace.gateway.retry_budget import RESERVE_PER_S, SHARE, WINDOW_S, RetryBudget


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def spent(budget: RetryBudget, *, tries: int) -> int:
    return sum(budget.spend() for _ in range(tries))


class TestRetryBudget:
    def test_without_traffic_only_the_reserve_is_there(self):
        budget = RetryBudget(monotonic=Clock())
        assert spent(budget, tries=10_000) == RESERVE_PER_S * WINDOW_S

    def test_each_request_earns_a_fifth_of_a_retry(self):
        budget = RetryBudget(reserve_per_s=0, monotonic=Clock())
        for _ in range(1_000):
            budget.earn()
        assert spent(budget, tries=10_000) == 1_000 * SHARE

    def test_what_was_refused_takes_nothing(self):
        clock = Clock()
        budget = RetryBudget(reserve_per_s=0, monotonic=clock)
        for _ in range(10):
            budget.earn()
        assert spent(budget, tries=100) == 2
        for _ in range(10):
            budget.earn()
        assert spent(budget, tries=100) == 2

    def test_what_was_earned_is_forgotten_after_the_window(self):
        clock = Clock()
        budget = RetryBudget(reserve_per_s=0, monotonic=clock)
        for _ in range(100):
            budget.earn()
        clock.now += WINDOW_S - 1
        assert budget.spend()
        clock.now += 1
        assert not budget.spend()

    def test_what_was_spent_is_forgotten_with_it(self):
        clock = Clock()
        budget = RetryBudget(reserve_per_s=1, monotonic=clock)
        assert spent(budget, tries=100) == WINDOW_S
        clock.now += WINDOW_S - 1
        assert not budget.spend()
        clock.now += 1
        assert spent(budget, tries=100) == WINDOW_S

    def test_a_long_silence_forgets_everything(self):
        clock = Clock()
        budget = RetryBudget(reserve_per_s=0, monotonic=clock)
        for _ in range(100):
            budget.earn()
        clock.now += 12_345.6
        assert not budget.spend()
