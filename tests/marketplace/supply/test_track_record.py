"""Live figures forget, lean on the model's where little was seen, and outlive a link."""

from uuid import UUID

import pytest

from raymart_marketplace.supply.breaker import MEMORY_S
from raymart_marketplace.supply.live import Served
from raymart_marketplace.supply.track_record import (
    HALF_LIFE_S,
    PRIOR_WEIGHT,
    Answer,
    Decayed,
    Figures,
    TrackRecords,
)

ENDPOINT, OTHER = UUID(int=1), UUID(int=2)
ANSWER = Served(first_token_s=0.1, duration_s=1.0, tokens=10)


class TestDecayed:
    def test_before_the_first_observation_there_is_none(self):
        assert Decayed().mean is None
        assert Decayed().near(None, 0.0) is None
        assert Decayed().near(7.0, 0.0) == 7.0

    def test_an_observation_counts_half_after_a_minute(self):
        figure = Decayed()
        figure.add(0.0, 0.0)
        figure.add(9.0, HALF_LIFE_S)
        assert figure.mean == pytest.approx(9.0 / 1.5)
        assert figure.weight(2 * HALF_LIFE_S) == pytest.approx(0.75)

    def test_it_leans_on_the_prior_the_more_the_older_it_is(self):
        figure = Decayed()
        figure.add(10.0, 0.0)
        assert figure.near(40.0, 0.0) == pytest.approx((10 + 40 * PRIOR_WEIGHT) / (1 + PRIOR_WEIGHT))
        assert figure.near(40.0, 20 * HALF_LIFE_S) == pytest.approx(40.0, rel=1e-4)
        assert figure.near(None, 0.0) == 10.0


class TestFigures:
    def test_an_answer_gives_all_of_them(self):
        figures = Figures()
        figures.answered(Answer.of(ANSWER, 0.0), 0.0)
        assert figures.first_token_ms.mean == pytest.approx(100.0)
        assert figures.inter_token_ms.mean == pytest.approx(900.0 / 9)
        assert figures.tokens_per_s.mean == pytest.approx(10.0)
        assert figures.failure.mean == 0.0

    def test_what_has_no_tokens_gives_no_rates(self):
        figures = Figures()
        figures.answered(Answer.of(Served(first_token_s=None, duration_s=1.0), 0.0), 0.0)
        figures.answered(Answer.of(Served(first_token_s=0.5, duration_s=1.0, tokens=1), 0.0), 0.0)
        assert figures.inter_token_ms.mean is None
        assert figures.tokens_per_s.mean == 1.0
        assert figures.first_token_ms.mean == 500.0

    def test_failures_make_the_error_rate(self):
        figures = Figures()
        for _ in range(3):
            figures.answered(Answer.of(ANSWER, 0.0), 0.0)
        figures.failed(0.0)
        assert figures.failure.mean == pytest.approx(0.25)


class TestTrackRecords:
    def setup_method(self):
        self.now = 1_000.0
        self.records = TrackRecords(clock=lambda: self.now)

    def test_the_model_has_the_figures_of_all_its_endpoints(self):
        self.records.served(self.records.of(ENDPOINT), self.records.of_model("m"), ANSWER)
        self.records.failed(OTHER, "m", began_at=self.now)
        assert self.records.of_model("m").failure.mean == pytest.approx(0.5)
        assert self.records.of_model("other").failure.mean is None
        assert self.records.of(ENDPOINT).figures.failure.mean == 0.0

    def test_a_failure_opens_the_breaker_and_a_success_after_that_closes_it(self):
        assert self.records.failed(ENDPOINT, "m", began_at=self.now) == 2.0
        assert self.records.of(ENDPOINT).breaker.refuses(self.now)
        self.now += 2.0
        self.records.served(self.records.of(ENDPOINT), self.records.of_model("m"), ANSWER)
        assert self.records.failed(ENDPOINT, None, began_at=self.now) == 2.0

    def test_the_record_of_what_is_gone_is_kept_for_a_while(self):
        kept, live = self.records.of(ENDPOINT), self.records.of(OTHER)
        self.now += MEMORY_S
        self.records.forget(lambda endpoint_id: endpoint_id == OTHER)
        assert self.records.of(ENDPOINT) is kept
        self.now += 0.1
        self.records.forget(lambda endpoint_id: endpoint_id == OTHER)
        assert self.records.of(ENDPOINT) is not kept
        assert self.records.of(OTHER) is live
