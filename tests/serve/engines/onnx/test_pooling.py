"""Pooling against numbers worked out by hand, and batches against their bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_serve.engines.onnx.pooling import pool, unit
from raymart_serve.engines.onnx.reranker import relevance
from raymart_serve.engines.onnx.revision import Pooling
from raymart_serve.engines.onnx.tokens import batches
from raymart_serve.engines.protocol import EngineFailed

STATES = np.array([[[1, 2], [3, 6], [500, -500]], [[2, 2], [-4, 0], [5, 1]]], np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]], np.int64)


class TestPool:
    @pytest.mark.parametrize(
        ("pooling", "expected"),
        [
            (Pooling.MEAN, [[2, 4], [1, 1]]),
            (Pooling.CLS, [[1, 2], [2, 2]]),
            (Pooling.LAST, [[3, 6], [5, 1]]),
            (Pooling.MAX, [[3, 6], [5, 2]]),
            (Pooling.WEIGHTED_MEAN, [[7 / 3, 14 / 3], [9 / 6, 5 / 6]]),
        ],
        ids=str,
    )
    def test_padding_counts_nowhere(self, pooling, expected) -> None:
        assert np.allclose(pool(STATES, MASK, pooling), expected)
        assert np.allclose(pool(STATES.astype(np.float16), MASK, pooling), expected, atol=1e-2)


class TestUnit:
    def test_cut_comes_before_the_scaling(self) -> None:
        made = unit(np.array([[3, 4, 100]], np.float32), dimensions=2)
        assert np.allclose(made, [[0.6, 0.8]])
        assert made.dtype == "<f4"

    def test_large_numbers_do_not_overflow(self) -> None:
        assert np.allclose(unit(np.array([[1e30, 1e30]], np.float32)), [[0.5**0.5, 0.5**0.5]])

    @pytest.mark.parametrize("number", [np.nan, np.inf, 0.0])
    def test_vector_that_has_no_direction_is_refused(self, number) -> None:
        with pytest.raises(EngineFailed):
            unit(np.array([[1, 1], [number, number]], np.float32))


class TestRelevance:
    def test_one_label_is_the_logistic_function(self) -> None:
        assert np.allclose(relevance(np.array([[0.0], [2.0], [-1e4], [1e4]])), [0.5, 0.880797, 0, 1])

    def test_two_labels_are_a_softmax(self) -> None:
        assert np.allclose(relevance(np.array([[1.0, 3.0]])), [0.880797])

    @pytest.mark.parametrize(
        "logits", [np.zeros((2, 3)), np.zeros(2), np.array([[np.nan]])], ids=["three", "flat", "nan"]
    )
    def test_other_scores_are_refused(self, logits) -> None:
        with pytest.raises(EngineFailed):
            relevance(logits)


class TestBatches:
    @given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
    def test_every_input_is_in_one_batch_of_bounded_cells(self, lengths, cells_max) -> None:
        made = list(batches(lengths, cells_max=cells_max))
        assert sorted(position for group in made for position in group) == list(range(len(lengths)))
        for group in made:
            cells = len(group) * max(lengths[position] for position in group)
            assert cells <= cells_max or len(group) == 1
