"""A percentile read off a histogram is within a tenth of the true one."""

from collections import Counter
from math import ceil, floor, log

from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.statistics.histogram import BINS, GROWTH, percentile

VALUES = st.lists(st.integers(1, 90_000), min_size=1, max_size=200)


def bins(values: list[int]) -> Counter[int]:
    return Counter(min(BINS - 1, floor(log(value) / log(GROWTH))) for value in values)


class TestPercentile:
    @given(values=VALUES, share=st.sampled_from([0.05, 0.5, 0.95, 1.0]))
    def test_it_is_within_a_tenth_of_the_true_one(self, values: list[int], share: float) -> None:
        true = sorted(values)[max(1, ceil(len(values) * share)) - 1]
        found = percentile(bins(values), share)
        assert found is not None
        assert true / 1.1 <= found <= true * 1.1

    def test_of_nothing_there_is_none(self) -> None:
        assert percentile({}, 0.5) is None
