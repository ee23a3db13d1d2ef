"""The Celery application, as configured and as run."""

import os
import subprocess
import sys

import pytest

from raymart_billing import celery_app
from raymart_billing.celery_app import TASK_TIME_LIMIT_S, create_celery, make_registry
from raymart_billing.work.broker import QUEUE, RECONNECT_S_MAX, TICK
from raymart_billing.work.process import WorkProcess
from raymart_billing.work.task import TIMEOUT_S_MAX
from raymart_billing.work.worker import DRAIN_S_MAX
from support.background import control_settings

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture(params=["redis://127.0.0.1:1/0", "amqp://guest@127.0.0.1:1//"])
def app(request):
    settings = control_settings(NOWHERE, broker_url=request.param, work_tick_s=0.5)
    return create_celery(settings, WorkProcess(settings, make_registry(settings)))


class TestCreateCelery:
    def test_importing_reads_no_environment(self):
        clean = {"PATH": os.defpath}
        subprocess.run(
            [sys.executable, "-c", "import raymart_billing.celery_app"], env=clean, check=True, timeout=60
        )

    def test_the_command_finds_no_other_names(self):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = celery_app.nothing

    def test_messages_are_acknowledged_late_and_fetched_singly(self, app):
        assert app.conf.task_acks_late
        assert app.conf.task_reject_on_worker_lost
        assert app.conf.worker_prefetch_multiplier == 1
        assert app.conf.accept_content == ["json"]

    def test_a_task_may_take_as_long_as_its_drain_and_one_handler(self, app):
        assert app.conf.task_time_limit == TASK_TIME_LIMIT_S > DRAIN_S_MAX + TIMEOUT_S_MAX

    def test_beat_ticks_and_compares_no_clocks(self, app):
        """An expiry is compared with another machine's clock: an hour of skew would drop every tick."""
        [entry] = app.conf.beat_schedule.values()
        assert entry == {"task": TICK, "schedule": 0.5}
        assert "expires" not in entry

    def test_a_broker_that_was_away_is_tried_every_two_seconds_for_ever(self, app, monkeypatch):
        """Nobody listens on port 1."""
        pauses = []

        def stop_after_eight(_, pause_s):
            pauses.append(pause_s)
            if len(pauses) == 8:
                raise StopAsyncIteration

        monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
        tries_max = app.conf.broker_connection_max_retries
        with pytest.raises(StopAsyncIteration):
            app.connection_for_write().ensure_connection(stop_after_eight, tries_max)
        assert max(pauses) == RECONNECT_S_MAX


class TestOnRedis:
    def test_a_message_comes_back_only_after_its_worker_must_have_ended(self):
        """Redis hands out again what is not acknowledged in time, also while the first worker is still at it."""
        settings = control_settings(NOWHERE)
        app = create_celery(settings, WorkProcess(settings, make_registry(settings)))
        options = app.conf.broker_transport_options
        assert app.conf.task_time_limit < options["visibility_timeout"]
        assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] <= 5


class TestOnRabbitmq:
    def test_the_queue_is_replicated_bounded_and_confirmed(self):
        settings = control_settings(NOWHERE, broker_url="amqp://guest@127.0.0.1:1//")
        app = create_celery(settings, WorkProcess(settings, make_registry(settings)))
        queue = app.amqp.queues[QUEUE]
        assert queue.queue_arguments == {"x-queue-type": "quorum", "x-max-length": 10_000}
        assert app.conf.broker_transport_options["confirm_publish"] is True
        assert app.amqp.router.route({}, TICK)["queue"].name == QUEUE


class TestMakeRegistry:
    def test_the_sweep_is_a_periodic_of_its_own_interval(self):
        registry = make_registry(control_settings(NOWHERE, sweep_interval_s=7.5))
        assert registry.periodics["sweep"].every_s == 7.5
