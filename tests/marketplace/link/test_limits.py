from raymart_marketplace.supply.link.limits import TokenBucket


class TestTokenBucket:
    def test_a_burst_of_four_seconds_passes_and_then_the_rate(self):
        now = 0.0
        bucket = TokenBucket(10, clock=lambda: now)
        assert sum(bucket.take() for _ in range(100)) == 40
        now = 1.0
        assert sum(bucket.take() for _ in range(100)) == 10

    def test_idle_time_saves_no_more_than_a_burst(self):
        now = 0.0
        bucket = TokenBucket(10, clock=lambda: now)
        now = 3_600.0
        assert sum(bucket.take() for _ in range(100)) == 40
