import numpy as np
import pytest

from raymart_core.wire.products import (
    SIZE_MAX,
    flops,
    left_row,
    norms_digest,
    right_row,
    row_norms,
    signs,
)

SEED = b"seed".ljust(32, b"\0")


def product(size, number, seed=SEED):
    """C_k by a library that knows nothing of lanes."""
    left = np.array([list(left_row(seed, row, size)) for row in range(size)], dtype=np.int64) - 1
    right = np.array([list(right_row(seed, row, size)) for row in range(size)], dtype=np.int64) - 1
    sign = (np.frombuffer(signs(seed, number, size), np.uint8) & 1).astype(np.int64) * 2 - 1
    return (left * sign) @ right


class TestRowNorms:
    @pytest.mark.parametrize("size", [1, 2, 17, 256])
    def test_they_are_the_norms_of_the_product(self, size):
        norms = np.abs(product(size, 3)).sum(axis=1)
        rows = [(3, row) for row in {0, size // 2, size - 1}]
        assert row_norms(SEED, size, rows) == [norms[row] for _, row in rows]

    def test_several_products_are_checked_in_one_pass(self):
        asked = [(0, 5), (2_047, 5), (7, 63)]
        expected = [np.abs(product(64, number)).sum(axis=1)[row] for number, row in asked]
        assert row_norms(SEED, 64, asked) == expected

    def test_lanes_do_not_overflow_at_the_largest_size(self):
        """Each lane adds up to 2 * size at most: the worst case fits into its 16 bits."""
        assert 2 * SIZE_MAX < 2**16

    def test_half_precision_holds_every_sum(self):
        """Entries of C are whole numbers far below 2,048, up to which float16 has them all: 25 standard deviations."""
        assert np.abs(product(512, 0)).max() * (SIZE_MAX / 512) ** 0.5 < 2_048


class TestProducts:
    def test_no_product_is_another(self):
        norms = {tuple(np.abs(product(32, number)).sum(axis=1)) for number in range(8)}
        assert len(norms) == 8

    def test_another_seed_means_other_matrices(self):
        other = b"other".ljust(32, b"\0")
        assert not np.array_equal(product(32, 0), product(32, 0, seed=other))

    def test_a_digest_tells_norms_apart(self):
        assert norms_digest(b"\1\0\0\0") != norms_digest(b"\2\0\0\0")

    def test_a_multiply_add_counts_twice(self):
        assert flops(10, 3) == 6_000
