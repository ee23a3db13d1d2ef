"""Failpoints: free unless the environment names one, and then as likely as it says."""

import pytest
from pydantic import ValidationError

from raymart_billing.payouts.sending.failpoints import (
    Failpoint,
    FailpointSettings,
    KillingFailpoints,
    NoFailpoints,
    open_failpoints,
)


def settings(text: str) -> FailpointSettings:
    return FailpointSettings.model_validate({"payout_failpoints": text})


class TestFailpointSettings:
    def test_environment_names_places_with_their_chances(self, monkeypatch):
        monkeypatch.setenv("RAYMART_PAYOUT_FAILPOINTS", "after_broadcast, before_settle:0.1,*:0.02")
        assert dict(FailpointSettings().payout_failpoints) == {
            "after_broadcast": 1.0,
            "before_settle": 0.1,
            "*": 0.02,
        }

    @pytest.mark.parametrize(
        "text", ["after_lunch", "after_settle:2", "after_settle:-0.1", "after_settle:often"]
    )
    def test_what_is_no_place_or_no_chance_stops_the_process(self, text):
        with pytest.raises(ValidationError):
            settings(text)


class TestOpenFailpoints:
    def test_none_is_named_in_production(self, monkeypatch):
        monkeypatch.delenv("RAYMART_PAYOUT_FAILPOINTS", raising=False)
        assert isinstance(open_failpoints(FailpointSettings()), NoFailpoints)

    def test_named_place_kills_and_others_do_not(self):
        killed: list[str] = []
        failpoints = KillingFailpoints({"after_settle": 1.0}, kill=lambda: killed.append("now"))
        for place in Failpoint:
            failpoints.hit(place)
        assert len(killed) == 1

    def test_star_is_every_place_that_is_not_named(self):
        killed: list[str] = []
        failpoints = KillingFailpoints({"*": 1.0, "after_settle": 0.0}, kill=lambda: killed.append("now"))
        for place in Failpoint:
            failpoints.hit(place)
        assert len(killed) == len(Failpoint) - 1
