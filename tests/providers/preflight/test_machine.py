from raymart_core.wire.link import Hardware
from raymart_providers.preflight import machine, machine_checks, rules

HARDWARE = Hardware(hostname="h", cpu_model="cpu", cpu_count=2, memory_bytes=4 * rules.GIB)


def checks(tmp_path, **changes):
    values = {"models": tmp_path / "not" / "yet", "ray_host": "127.0.0.1", "offered_gpus": "all", **changes}
    return {check.check: check for check in machine_checks(HARDWARE, **values)}


class TestMachineChecks:
    def test_each_is_made_and_nothing_is_written(self, tmp_path):
        found = checks(tmp_path)
        assert set(found) >= {"machine", "python", "ray", "gpu", "memory", "disk", "open files", "ports"}
        assert [found[name].result for name in ("machine", "python", "ray", "ports")] == ["ok"] * 4
        assert list(tmp_path.iterdir()) == []

    def test_an_address_of_another_machine_fails_by_name(self, tmp_path):
        check = checks(tmp_path, ray_host="192.0.2.1")["ports"]
        assert (check.result, "--ray-host" in check.fix) == ("fail", True)

    def test_a_card_on_the_bus_without_a_driver_is_found(self, tmp_path, monkeypatch):
        for name, vendor, kind in (
            ("gpu", "0x10de", "0x030200"),
            ("its audio", "0x10de", "0x040300"),
            ("other", "0x8086", "0x030000"),
        ):
            (tmp_path / name).mkdir()
            (tmp_path / name / "vendor").write_text(f"{vendor}\n")
            (tmp_path / name / "class").write_text(f"{kind}\n")
        monkeypatch.setattr(machine, "_BUS", tmp_path)
        check = checks(tmp_path)["gpu"]
        assert (check.result, check.found.startswith("1 NVIDIA")) == ("fail", True)

    def test_a_full_disk_fails(self, tmp_path, monkeypatch):
        usage = type("Usage", (), {"free": rules.GIB})
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
        assert checks(tmp_path)["disk"].result == "fail"
