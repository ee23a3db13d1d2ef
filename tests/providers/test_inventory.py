from types import SimpleNamespace

import pynvml
import pytest

from raymart_providers import inventory


class TestHardware:
    def test_this_machine_has_a_cpu_memory_and_a_hashed_id(self):
        found = inventory.hardware()
        assert found.cpu_count >= 1
        assert found.memory_bytes > 0
        assert found.cpu_model
        assert len(found.machine_id) == 64
        assert inventory.hardware().machine_id == found.machine_id

    def test_a_machine_id_may_stand_for_another_machine(self):
        assert inventory.hardware(machine_id="a").machine_id != inventory.hardware(machine_id="b").machine_id

    def test_the_id_does_not_show_the_machines_own(self, tmp_path, monkeypatch):
        (tmp_path / "machine-id").write_text("0123456789abcdef\n")
        monkeypatch.setattr(inventory, "_MACHINE_ID_FILES", (tmp_path / "machine-id",))
        assert "0123456789abcdef" not in inventory.hardware().machine_id

    def test_a_machine_without_an_id_file_still_has_one(self, monkeypatch):
        monkeypatch.setattr(inventory, "_MACHINE_ID_FILES", ())
        assert len(inventory.hardware().machine_id) == 64


class TestGpus:
    """NVML is a driver's library; where it is absent its answers are played."""

    @pytest.fixture
    def nvml(self, monkeypatch):
        played = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: b"580.1",
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
            "nvmlDeviceGetName": lambda handle: "H200",
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=150_754_820_096),
        }
        for name, function in played.items():
            monkeypatch.setattr(pynvml, name, function)
        return lambda name, function: monkeypatch.setattr(pynvml, name, function)

    def test_each_gpu_is_listed(self, nvml):
        found = inventory.gpus()
        assert [gpu.uuid for gpu in found] == ["GPU-0", "GPU-1"]
        assert (found[0].model, found[0].driver, found[0].memory_bytes) == ("H200", "580.1", 150_754_820_096)

    def test_no_driver_means_no_gpu(self, nvml):
        def fail():
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

        nvml("nvmlInit", fail)
        assert inventory.gpus() == ()

    def test_a_gpu_that_fails_leaves_the_others(self, nvml):
        def name(handle):
            if handle == 0:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return "H200"

        nvml("nvmlDeviceGetName", name)
        assert [gpu.uuid for gpu in inventory.gpus()] == ["GPU-1"]

    def test_a_driver_that_fails_later_means_no_gpu(self, nvml):
        def count():
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

        nvml("nvmlDeviceGetCount", count)
        assert inventory.gpus() == ()
