import pytest

from raymart_core.wire.link import Gpu
from raymart_providers.preflight import rules

H100 = Gpu(uuid="GPU-1", model="NVIDIA H100", memory_bytes=80 * rules.GIB, driver="580.65")


class TestPython:
    @pytest.mark.parametrize(
        ("version", "result"),
        [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 12, 9), "ok"), ((3, 13, 0), "fail")],
    )
    def test_only_versions_that_the_engines_run_on(self, version, result):
        assert rules.python_check(version).result == result


class TestRay:
    @pytest.mark.parametrize(("installed", "result"), [("2.60.0", "ok"), ("2.60.1", "fail"), (None, "fail")])
    def test_only_the_version_that_is_pinned(self, installed, result):
        check = rules.ray_check(installed=installed, wanted="2.60.0")
        assert check.result == result
        assert result == "ok" or "ray[serve]==2.60.0" in check.fix


class TestGpu:
    def test_gpus_are_named(self):
        assert "NVIDIA H100 80 GiB" in rules.gpu_check([H100], cards_seen=1, offered="all").found

    @pytest.mark.parametrize(
        ("cards_seen", "offered", "result"),
        [(0, "all", "warn"), (2, "all", "fail"), (2, "none", "ok"), (1, "GPU-9", "fail")],
    )
    def test_a_card_that_cannot_be_sold_is_a_failure_unless_it_is_not_for_sale(
        self, cards_seen, offered, result
    ):
        check = rules.gpu_check([], cards_seen=cards_seen, offered=offered)
        assert check.result == result
        assert result == "ok" or check.fix

    @pytest.mark.parametrize(
        ("cuda", "result"), [("13.0", "ok"), ("14.1", "ok"), ("12.9", "warn"), ("", "warn")]
    )
    def test_a_driver_too_old_for_the_engines_is_told(self, cuda, result):
        assert rules.driver_check(driver="1", cuda=cuda).result == result


class TestAmount:
    @pytest.mark.parametrize(
        ("free", "result", "said"), [(5, "ok", "5.0 GiB"), (3, "warn", "4 GiB"), (0.5, "fail", "1 GiB")]
    )
    def test_the_limit_that_was_missed_is_told(self, free, result, said):
        check = rules.amount_check(
            "memory",
            int(free * rules.GIB),
            of="of the memory",
            fail_below=rules.GIB,
            warn_below=4 * rules.GIB,
            fix="stop what else runs",
        )
        assert (check.result, said in check.found) == (result, True)
        assert (check.fix == "") is (result == "ok")


class TestFiles:
    @pytest.mark.parametrize(("limit", "result"), [(1024, "warn"), (4096, "ok")])
    def test_few_open_files_are_told(self, limit, result):
        assert rules.files_check(limit).result == result


class TestMarketplace:
    @pytest.mark.parametrize(("skew_s", "result"), [(5.0, "ok"), (-5.1, "warn"), (3600, "warn")])
    def test_a_clock_that_is_off_is_told_and_no_failure(self, skew_s, result):
        assert rules.clock_check(skew_s).result == result

    @pytest.mark.parametrize(("round_trip_ms", "result"), [(250, "ok"), (251, "warn")])
    def test_a_long_way_is_told(self, round_trip_ms, result):
        assert rules.round_trip_check(round_trip_ms).result == result

    @pytest.mark.parametrize(("mbit_s", "result"), [(10, "ok"), (9.9, "warn"), (None, "warn")])
    def test_a_narrow_way_is_told(self, mbit_s, result):
        assert rules.bandwidth_check(mbit_s, size_bytes=1_000_000).result == result
