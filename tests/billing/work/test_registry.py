"""The registry: what the parts declare, by unique names."""

import pytest

from raymart_billing.celery_app import make_registry
from raymart_billing.work import Periodic, Task
from raymart_billing.work.registry import by_name, collect
from support.background import control_settings


async def nothing(*_):
    pass


class TestCollect:
    def test_each_part_with_tasks_is_found(self):
        declared = collect()
        assert "work.prune" in {periodic.name for periodic in declared.periodics}
        assert declared.sweep_steps

    def test_all_names_together_are_unique(self):
        registry = make_registry(control_settings("postgresql://nobody@127.0.0.1:1/none"))
        assert "sweep" in registry.periodics


class TestByName:
    def test_two_of_one_name_are_a_bug(self):
        task = Task(name="a.b", handle=nothing)
        with pytest.raises(AssertionError, match=r"two are named 'a\.b'"):
            by_name([task, task], [])

    def test_a_task_and_a_periodic_of_one_name_are_a_bug(self):
        with pytest.raises(AssertionError, match="task and a periodic"):
            by_name([Task(name="a.b", handle=nothing)], [Periodic(name="a.b", handle=nothing, every_s=1)])


class TestTask:
    @pytest.mark.parametrize(
        "change",
        [
            {"timeout_s": 0},
            {"timeout_s": 301},
            {"attempts_max": 0},
            {"backoff_s_min": 0},
            {"backoff_s_min": 10, "backoff_s_max": 5},
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, change):
        with pytest.raises(AssertionError, match=r"a\.b"):
            Task(name="a.b", handle=nothing, **change)

    def test_a_periodic_has_a_period(self):
        with pytest.raises(AssertionError):
            Periodic(name="a.b", handle=nothing, every_s=0)
