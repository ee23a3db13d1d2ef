from types import SimpleNamespace

import pytest

from raymart_serve import autoscaling
from raymart_serve.autoscaling import DEMAND_TTL_S, demand_of, demand_value, replica_count, replicas_for_load


class TestReplicaCount:
    @pytest.mark.parametrize(
        ("loads", "count"),
        [
            ([0.0], 0),
            ([0.1], 1),
            ([0.8], 1),
            ([0.9], 2),
            ([2.0], 3),
            ([0.8, 0.8], 2),
            ([1.0, 1.0, 0.0], 3),
        ],
    )
    def test_as_many_as_hold_each_at_the_target(self, loads: list[float], count: int) -> None:
        assert replica_count(loads, demand=0.0, target=1) == count

    def test_without_a_report_the_count_stays(self) -> None:
        assert replica_count([], demand=0.0, target=3) == 3

    @pytest.mark.parametrize(
        ("loads", "demand", "target", "count"),
        [
            ([], 0.25, 0, 1),
            ([], 1.0, 0, 1),
            ([], 1.01, 0, 2),
            ([0.0], 0.1, 1, 1),
            ([2.0], 1.0, 1, 3),
            ([], 0.0, 0, 0),
        ],
    )
    def test_demand_counts_where_it_is_more_than_load(
        self, loads: list[float], demand: float, target: int, count: int
    ) -> None:
        assert replica_count(loads, demand=demand, target=target) == count


class TestDemand:
    def test_is_read_back_by_application(self) -> None:
        value = demand_value({"placement-a": 1.5}, now=100.0)
        assert demand_of(value, "placement-a", now=101.0) == 1.5
        assert demand_of(value, "placement-b", now=101.0) == 0.0

    def test_ends_when_nobody_repeats_it(self) -> None:
        value = demand_value({"placement-a": 1.0}, now=100.0)
        assert demand_of(value, "placement-a", now=100.0 + DEMAND_TTL_S) == 0.0

    def test_none_was_ever_told(self) -> None:
        assert demand_of(None, "placement-a", now=0.0) == 0.0


class TestReplicasForLoad:
    def test_demand_is_read_twice_a_second_and_remembered_between(self, monkeypatch) -> None:
        """The policy runs ten times a second for every placement; a read goes to another process."""
        clock, reads = SimpleNamespace(now=1_000.0), []

        def read():
            reads.append(clock.now)
            return demand_value({"placement-a": 2.0}, now=clock.now)

        monkeypatch.setattr(autoscaling, "_read_demand", read)
        monkeypatch.setattr(autoscaling, "time", SimpleNamespace(time=lambda: clock.now))
        state: dict[str, object] = {"serve's own": 1}
        for _ in range(10):
            count, state = replicas_for_load(
                SimpleNamespace(
                    aggregated_metrics={"load": {"r1": 0.1}},
                    target_num_replicas=1,
                    app_name="placement-a",
                    policy_state=state,
                )
            )
            assert count == 2
            clock.now += 0.1
        assert len(reads) == 2
