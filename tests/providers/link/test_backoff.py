from raymart_providers.link.backoff import Backoff


class TestBackoff:
    def test_pauses_grow_within_bounds(self):
        for _ in range(50):
            backoff = Backoff(first_s=0.25, longest_s=15)
            for attempt in range(40):
                assert 0 <= backoff.next_s() <= min(15, 0.25 * 2**attempt)

    def test_they_are_spread(self):
        pauses = set()
        for _ in range(20):
            backoff = Backoff(first_s=8)
            pauses.add(round(backoff.next_s(), 6))
        assert len(pauses) > 15

    def test_a_good_attempt_starts_over(self):
        backoff = Backoff(first_s=0.1, longest_s=1000)
        for _ in range(10):
            backoff.next_s()
        backoff.reset()
        assert backoff.next_s() <= 0.1

    def test_days_of_failures_do_not_overflow(self):
        backoff = Backoff()
        backoff.failures = 10**6
        assert backoff.next_s() <= 15
