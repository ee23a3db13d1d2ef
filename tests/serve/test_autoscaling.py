from types import SimpleNamespace

import pytest

from raymart_serve.autoscaling import replicas_for_load


def wanted(loads: dict[str, float] | None, *, now: int = 1) -> int:
    metrics = None if loads is None else {"load": loads, "running": {}}
    return replicas_for_load(SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=now))[0]


class TestReplicasForLoad:
    @pytest.mark.parametrize(
        ("loads", "count"),
        [
            ({"r1": 0.0}, 0),
            ({"r1": 0.1}, 1),
            ({"r1": 0.8}, 1),
            ({"r1": 0.9}, 2),
            ({"r1": 2.0}, 3),
            ({"r1": 0.8, "r2": 0.8}, 2),
            ({"r1": 1.0, "r2": 1.0, "r3": 0.0}, 3),
        ],
    )
    def test_as_many_as_hold_each_at_the_target(self, loads: dict[str, float], count: int) -> None:
        assert wanted(loads) == count

    @pytest.mark.parametrize("loads", [None, {}])
    def test_without_a_report_the_count_stays(self, loads: dict[str, float] | None) -> None:
        assert wanted(loads, now=3) == 3
