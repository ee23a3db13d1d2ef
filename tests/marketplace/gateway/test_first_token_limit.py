"""An endpoint that is stuck is left sooner than a slow one, and only while there is a better place to go."""

import dataclasses

import msgspec
import pytest
from marketplace.routing.test_route import endpoint

from raymart_marketplace.gateway.first_token_limit import LEAST_S, TIMES, first_token_limit_s, limits_at
from support.gateway_market import LIMITS

QUICK = endpoint(1, first_token_ms=50.0, observations=9.0)
SLOW = endpoint(1, first_token_ms=400.0, observations=9.0)
SPARE = endpoint(2)


def limit_s(at, spare=SPARE, *, tokens=0):
    return first_token_limit_s(at, spare, tokens_prompt_max=tokens)


class TestLimit:
    def test_who_is_quick_is_given_the_least(self):
        assert limit_s(QUICK) == LEAST_S

    def test_who_is_slow_is_given_many_times_the_usual(self):
        assert limit_s(SLOW) == pytest.approx(TIMES * 0.4)

    def test_a_long_prompt_takes_longer(self):
        assert limit_s(QUICK, tokens=4_000) == pytest.approx(3 * LEAST_S)

    @pytest.mark.parametrize(
        ("at", "spare"),
        [
            (QUICK, None),
            (QUICK, msgspec.structs.replace(SPARE, running=4)),
            (QUICK, msgspec.structs.replace(SPARE, quarantined=True)),
            (msgspec.structs.replace(QUICK, running=4), SPARE),
            (msgspec.structs.replace(QUICK, observations=2.9), SPARE),
            (msgspec.structs.replace(QUICK, first_token_ms=None), SPARE),
        ],
        ids=["last", "spare is full", "spare failed", "it queues", "hardly known", "not known"],
    )
    def test_the_whole_limit_where_going_elsewhere_is_no_better(self, at, spare):
        assert limit_s(at, spare) is None
        assert limits_at(at, spare, tokens_prompt_max=0, limits=LIMITS) is LIMITS

    def test_it_never_gives_more_than_the_gateways_own(self):
        short = dataclasses.replace(LIMITS, first_token_timeout_s=1.0)
        assert limits_at(QUICK, SPARE, tokens_prompt_max=0, limits=short) is short
        shorter = limits_at(QUICK, SPARE, tokens_prompt_max=0, limits=LIMITS)
        assert shorter == dataclasses.replace(LIMITS, first_token_timeout_s=LEAST_S)
