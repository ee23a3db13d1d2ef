"""The Celery application, as configured and as run."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from raymart_billing import celery_app
from raymart_billing.celery_app import create_celery
from raymart_billing.records.copying import copy_requests
from raymart_billing.tasks import SWEEP, SWEEP_TIMEOUT_S
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.settings import ControlSettings

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def redis(tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as redis:
        yield redis


@pytest.fixture
def settings():
    return ControlSettings(
        database_url="postgresql://nobody@127.0.0.1:1/none",
        broker_url="redis://127.0.0.1:1/0",
        token_secret=SECRET,
        sweep_interval_s=0.5,
    )


class TestCreateCelery:
    def test_importing_reads_no_environment(self):
        clean = {"PATH": os.defpath}
        subprocess.run(
            [sys.executable, "-c", "import raymart_billing.celery_app"], env=clean, check=True, timeout=60
        )

    def test_the_command_finds_no_other_names(self):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = celery_app.nothing

    def test_messages_are_acknowledged_late_and_fetched_singly(self, settings):
        app = create_celery(settings)
        assert app.conf.task_acks_late
        assert app.conf.task_reject_on_worker_lost
        assert app.conf.worker_prefetch_multiplier == 1
        assert app.conf.accept_content == ["json"]

    def test_a_message_comes_back_only_after_its_worker_must_have_ended(self, settings):
        """Redis hands out again what is not acknowledged in time, also while the first worker is still at it."""
        app = create_celery(settings)
        options = app.conf.broker_transport_options
        assert SWEEP_TIMEOUT_S < app.conf.task_time_limit < options["visibility_timeout"]
        assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] <= 5

    def test_beat_asks_for_a_sweep_each_interval_and_old_hints_lapse(self, settings):
        [entry] = create_celery(settings).conf.beat_schedule.values()
        assert entry == {"task": SWEEP, "schedule": 0.5, "options": {"expires": 1.0}}


class TestWorker:
    async def test_worker_and_beat_settle_what_the_gateway_left(self, database_url, redis, pool, books):
        """The real thing: Redis, beat, a worker process; usage that nobody posted and a hold that nobody released."""
        request = books.finished()
        await books.fund(1_000)
        await books.hold(request.id, 500)
        await books.hold(books.finished().id, 300, "1 microsecond")
        async with pool.connection() as connection:
            await copy_requests(connection, [request], may_exist=False)

        environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "BROKER_URL": redis.url,
            "RAYMART_TOKEN_SECRET": SECRET,
            "RAYMART_SWEEP_INTERVAL_S": "0.5",
        }
        argv = [sys.executable, "-m", "celery", "-A", "raymart_billing.celery_app", "worker", "--beat"]
        process = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while await books.columns("customer_balance") != (120, 1_000, 0, 0):
                assert process.poll() is None, "the worker ended"
                assert time.monotonic() < deadline, "nothing was swept"
                await asyncio.sleep(0.1)
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = await asyncio.to_thread(process.communicate, timeout=30)
        assert process.returncode == 0
        assert b" ready." in said, said.decode()
        assert (await books.columns("provider_payable")).balance == 108
