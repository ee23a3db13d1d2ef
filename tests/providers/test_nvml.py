"""What pynvml's real path makes of a driver's answers."""

import pytest

from support.nvml_library import asked, built_library

GPUS = "from raymart_providers.nvml import gpus\nsaid = gpus(offered={offered!r})"
SAMPLES = (
    "from raymart_providers.nvml import driver, samples\n"
    "with driver(): said = samples(frozenset({'GPU-h200', 'GPU-t4', 'GPU-split'}))"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return built_library(tmp_path_factory.mktemp("nvml"))


class TestGpus:
    @pytest.fixture
    def found(self, library):
        return {gpu["uuid"]: gpu for gpu in asked(library, GPUS.format(offered="all"))}

    def test_a_card_is_described_in_full(self, found):
        assert found["GPU-h200"] == {
            "uuid": "GPU-h200",
            "model": "NVIDIA H200",
            "memory_bytes": 143_771 * 2**20,
            "driver": "580.95.05",
            "compute_capability": "9.0",
            "multiprocessors": 132,
            "ecc": True,
            "mig": [],
        }

    def test_an_older_card_has_what_its_driver_tells(self, found):
        card = found["GPU-t4"]
        assert (card["compute_capability"], card["multiprocessors"], card["ecc"]) == ("7.5", 40, False)

    def test_slices_of_a_partitioned_card_are_listed(self, found):
        assert found["GPU-split"]["mig"] == [
            {"uuid": "MIG-slice-0", "profile": "1g.18gb", "memory_bytes": 16_384 * 2**20},
            {"uuid": "MIG-slice-1", "profile": "2g.35gb", "memory_bytes": 33_280 * 2**20},
        ]

    def test_a_card_that_fails_leaves_the_others(self, library):
        found = asked(library, GPUS.format(offered="all"), broken="name0")
        assert [gpu["uuid"] for gpu in found] == ["GPU-t4", "GPU-split"]

    def test_a_driver_that_is_not_loaded_means_no_gpu(self, library):
        assert asked(library, GPUS.format(offered="all"), broken="init") == []

    @pytest.mark.parametrize(
        ("offered", "expected"), [("none", []), ("GPU-t4, GPU-else", ["GPU-t4"]), ("GPU-h2", [])]
    )
    def test_only_what_is_offered_is_told(self, library, offered, expected):
        assert [gpu["uuid"] for gpu in asked(library, GPUS.format(offered=offered))] == expected


class TestSamples:
    @pytest.fixture
    def found(self, library):
        return {sample["uuid"]: sample for sample in asked(library, SAMPLES)}

    def test_a_card_tells_how_it_is_doing(self, found):
        assert found["GPU-h200"] == {
            "uuid": "GPU-h200",
            "utilisation_percent": 87.0,
            "memory_used_bytes": 5 * 2**30,
            "temperature_c": 61.0,
            "power_w": 412.5,
            "ecc_uncorrected_total": 2,
        }

    def test_what_a_card_does_not_support_is_left_out(self, found):
        assert set(found["GPU-t4"]) == {"uuid", "utilisation_percent", "memory_used_bytes", "temperature_c"}
        assert "utilisation_percent" not in found["GPU-split"]


class TestHardware:
    def test_the_inventory_names_cuda_and_the_system(self, library):
        said = asked(library, "from raymart_providers.inventory import hardware\nsaid = hardware()")
        assert said["cuda"] == "13.0"
        assert len(said["gpus"]) == 3
        assert said["os"]
        assert said["kernel"]
        assert said["disk_bytes"] > 0
