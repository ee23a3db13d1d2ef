"""What answers say of limits."""

from raymart_core.ids import new_id
from raymart_marketplace.gateway.rate_limits.headers import limit_headers
from raymart_marketplace.gateway.rate_limits.limits import Level, Limits
from raymart_marketplace.gateway.rate_limits.share import Share


def share_of(limits: Limits, **state: float) -> Share:
    share = Share(level=Level.PROJECT, id=new_id(), limits=limits, known_at=100.0)
    for name, value in state.items():
        setattr(share, name, value)
    return share


class TestLimitHeaders:
    def test_without_limits_there_are_none(self):
        assert list(limit_headers((), 100.0)) == []
        assert list(limit_headers([share_of(Limits(concurrent_requests=5))], 100.0)) == []

    def test_what_is_left_grows_with_time_up_to_the_limit(self):
        share = share_of(Limits(requests_per_minute=60), left_requests=10.0, requests=5.0)
        at = {now: dict(limit_headers([share], now)) for now in (100.0, 130.0, 500.0)}
        assert at[100.0] == {
            b"x-ratelimit-limit-requests": b"60",
            b"x-ratelimit-remaining-requests": b"15",
            b"x-ratelimit-reset-requests": b"45s",
        }
        assert at[130.0][b"x-ratelimit-remaining-requests"] == b"45"
        assert at[500.0][b"x-ratelimit-remaining-requests"] == b"60"
        assert at[500.0][b"x-ratelimit-reset-requests"] == b"0ms"

    def test_of_several_levels_the_one_with_least_left_is_told(self):
        wide = share_of(Limits(requests_per_minute=1_000, tokens_per_minute=50))
        narrow = share_of(Limits(requests_per_minute=100, tokens_per_minute=9_000))
        found = dict(limit_headers([wide, narrow], 100.0))
        assert found[b"x-ratelimit-limit-requests"] == b"100"
        assert found[b"x-ratelimit-limit-tokens"] == b"50"

    def test_a_debt_leaves_nothing(self):
        share = share_of(Limits(tokens_per_minute=600), left_tokens=0.0, tokens=-5_000.0)
        found = dict(limit_headers([share], 100.0))
        assert found[b"x-ratelimit-remaining-tokens"] == b"0"
        assert found[b"x-ratelimit-reset-tokens"] == b"60s"

    def test_short_times_are_in_milliseconds(self):
        share = share_of(Limits(requests_per_minute=600), left_requests=595.0)
        assert dict(limit_headers([share], 100.0))[b"x-ratelimit-reset-requests"] == b"500ms"
