import numpy as np
import pytest

from raymart_core.wire.machine import BenchmarkOrder
from raymart_core.wire.products import NORMS_DIGEST_BYTES, norms_digest, row_norms
from raymart_providers.benchmark.torch_device import TorchDevice
from raymart_providers.benchmark.worker import Bench

SEED = b"\7" * 32


def order(check, **changes):
    values = {"order": "o1", "check": check, "seed": SEED, "size": 96, "timeout_s": 10.0, "budget_s": 0.01}
    return BenchmarkOrder(**{**values, **changes})


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, "")


class TestMatrix:
    def measured(self, bench):
        assert bench.carry_out(order("ready")).problem == ""
        return bench.carry_out(order("matrix"))

    def test_each_product_is_committed_to_and_can_be_opened(self, bench):
        result = self.measured(bench)
        assert result.amount >= 1
        assert result.seconds > 0
        assert len(result.digests) == result.amount * NORMS_DIGEST_BYTES
        last = int(result.amount) - 1
        norms = bench.carry_out(order("open", product=last)).norms
        assert norms_digest(norms) == result.digests[-NORMS_DIGEST_BYTES:]
        found = np.frombuffer(norms, "<u4")
        assert [found[0], found[95]] == row_norms(SEED, 96, [(last, 0), (last, 95)])

    def test_a_gpu_gives_the_same_norms_as_the_processors(self, bench):
        """Torch in half precision, here without a GPU: the sums are exact wherever they are made."""
        self.measured(bench)
        device = TorchDevice("cpu")
        device.prepare(SEED, 96)
        assert device.multiply(2) > 0
        for product in range(2):
            assert device.norms(product) == bench.carry_out(order("open", product=product)).norms

    def test_without_preparation_there_is_no_measurement(self, bench):
        assert "ready" in bench.carry_out(order("matrix")).problem

    def test_a_seed_is_good_for_one_measurement(self, bench):
        self.measured(bench)
        assert "once" in bench.carry_out(order("matrix")).problem

    def test_a_product_that_was_not_made_cannot_be_opened(self, bench):
        made = int(self.measured(bench).amount)
        assert "was not made" in bench.carry_out(order("open", product=made)).problem
        assert "was not made" in bench.carry_out(order("open", product=0, seed=b"other")).problem

    @pytest.mark.parametrize("size", [0, -1, 8_193])
    def test_a_size_that_cannot_be_is_refused(self, bench, size):
        assert "rows" in bench.carry_out(order("ready", size=size)).problem


class TestMemoryAndDisk:
    def test_memory_is_moved_for_the_budget(self, bench):
        result = bench.carry_out(order("memory", size=2**20))
        assert result.amount >= 2 * 2**20
        assert result.seconds >= 0.01

    def test_torch_moves_memory_too(self):
        moved, seconds = TorchDevice("cpu").move(2**20, 0.01)
        assert moved >= 2 * 2**20
        assert seconds >= 0.01

    def test_a_file_is_written_read_and_gone(self, bench, tmp_path):
        result = bench.carry_out(order("disk", size=3 * 2**20))
        assert result.amount == 3 * 2**20
        assert result.found["free_bytes"] > 0
        assert result.found["read_s"] > 0
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_takes_no_file_is_a_problem_and_no_crash(self, tmp_path):
        result = Bench(tmp_path / "gone", "").carry_out(order("disk", size=2**20))
        assert "FileNotFoundError" in result.problem


class TestUnknown:
    def test_a_check_of_a_newer_marketplace_is_answered(self, bench):
        assert "update it" in bench.carry_out(order("quantum")).problem

    def test_a_gpu_without_cuda_is_a_problem(self, tmp_path):
        assert "no CUDA device" in Bench(tmp_path, "GPU-1").carry_out(order("ready")).problem
