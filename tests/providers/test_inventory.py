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

    def test_a_folder_that_is_not_there_yet_is_measured_by_what_is_above(self, tmp_path):
        found = inventory.hardware(folder=tmp_path / "not" / "made")
        assert found.disk_bytes == inventory.hardware(folder=tmp_path).disk_bytes > 0

    def test_a_machine_without_a_driver_has_no_cuda(self):
        found = inventory.hardware(offered="none")
        assert (found.gpus, found.cuda) == ((), "")
