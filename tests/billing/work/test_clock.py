"""Clocks that are an hour wrong, or jump by an hour: nothing expires early, nothing runs twice, nothing stalls.

PostgreSQL's clock decides; that one may jump too, which `test_worker.py` and `test_periodic.py` show on the rows.
"""

import subprocess
import sys
import time
from contextlib import ExitStack

import psycopg
import pytest

from raymart_core.ids import new_id
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from support.celery_processes import EFFECT_TABLE, TESTS, CeleryProcess
from support.empty_database import empty_database_url
from support.seller_process import SellerProcess, books_of

__all__ = ["empty_database_url"]

HOUR_S = 3_600


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def connection(database_url, owner_url):
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(EFFECT_TABLE)
        owner.execute("grant select, insert on test_effect to raymart_runtime")
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def redis(tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as redis:
        yield redis


class Clock:
    """The file that says how wrong some processes' clocks are."""

    def __init__(self, path, shift_s=0):
        self.path = path
        self.move(shift_s)

    def move(self, shift_s):
        """Jump, in mid-run."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(str(shift_s))
        fresh.replace(self.path)


def rows(connection, statement, *parameters):
    return connection.execute(statement, parameters).fetchall()


def enqueue(connection, task, subject):
    outbox_id = new_id()
    connection.execute(
        "insert into outbox (id, task, subject) values (%s, %s, %s)", (outbox_id, task, subject)
    )
    return outbox_id


def wait_done(connection, outbox_ids, *, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    waiting = "select count(*) from outbox where id = any(%s) and state <> 'done'"
    while rows(connection, waiting, outbox_ids) != [(0,)]:
        assert time.monotonic() < deadline, "not done in time"
        time.sleep(0.05)


def effects(connection, task, subject):
    [[count]] = rows(
        connection, "select count(*) from test_effect where task = %s and subject = %s", task, subject
    )
    return count


def ticks_since(connection, begun):
    """How often the periodic of every second has run since `begun`, a time of the database."""
    [[count]] = rows(
        connection, "select count(*) from test_effect where task = 'test.beat' and at > %s", begun
    )
    return count


def database_now(connection):
    [[now]] = rows(connection, "select clock_timestamp()")
    return now


class TestMovedClock:
    def test_the_shim_moves_what_programs_look_at(self, tmp_path):
        """Or the tests below would show nothing."""
        clock = Clock(tmp_path / "clock", HOUR_S)
        program = tmp_path / "look.py"
        program.write_text(
            "import time\nfrom datetime import datetime, UTC\nprint(time.time(), datetime.now(UTC).timestamp())"
        )
        looked = subprocess.run(
            [sys.executable, "-m", "support.moved_clock", "look"],
            env={"PYTHONPATH": f"{TESTS}:{tmp_path}", "MOVED_CLOCK_FILE": str(clock.path)},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        for seen in map(float, looked.stdout.split()):
            assert HOUR_S - 60 < seen - time.time() < HOUR_S + 60


class TestWorker:
    def test_a_worker_whose_clock_jumps_goes_on_as_if_it_had_not(
        self, database_url, connection, redis, stack, tmp_path
    ):
        clock = Clock(tmp_path / "clock")
        worker = CeleryProcess(
            "worker", "--pool=solo", "--beat", "--without-gossip", "--without-mingle",
            database_url=database_url, broker_url=redis.url, clock_file=clock.path,
        )  # fmt: skip
        stack.enter_context(worker)
        worker.wait_for(" ready.")
        tag = new_id().hex
        begun, begun_at = database_now(connection), time.monotonic()
        items = []
        for shift_s in (HOUR_S, -HOUR_S, 0):
            items.append(enqueue(connection, "test.slow", f"1.5:{tag}"))
            time.sleep(0.7)
            clock.move(shift_s)
            items.append(enqueue(connection, "test.quick", f"q:{tag}"))
            wait_done(connection, items)
        elapsed_s = time.monotonic() - begun_at
        assert effects(connection, "begun", f"1.5:{tag}") == 3
        assert effects(connection, "test.slow", f"1.5:{tag}") == 3
        assert effects(connection, "test.quick", f"q:{tag}") == 3
        # Neither a storm of what an hour would have brought, nor an hour's silence.
        assert elapsed_s / 5 - 1 <= ticks_since(connection, begun) <= elapsed_s + 2


@pytest.mark.slow
class TestAll:
    def test_gateway_workers_and_beat_disagree_by_two_hours_and_jump(
        self, empty_database_url, redis, stack, tmp_path
    ):
        """One worker is an hour ahead, one an hour behind; the gateway's and beat's clocks jump under load."""
        database_url = empty_database_url
        upgrade(database_url)
        connection = stack.enter_context(psycopg.connect(database_url, autocommit=True))
        connection.execute(EFFECT_TABLE)
        ahead, behind, jumping = (
            Clock(tmp_path / name, shift)
            for name, shift in (("ahead", HOUR_S), ("behind", -HOUR_S), ("jump", 0))
        )
        urls = {"database_url": database_url, "broker_url": redis.url, "redis_url": redis.url}
        quiet = ("--without-gossip", "--without-mingle")
        for clock in (ahead, behind):
            name = f"--hostname={clock.path.name}@test"
            worker = CeleryProcess(
                "worker", "--pool=prefork", "--concurrency=2", name, *quiet, **urls, clock_file=clock.path
            )
            stack.enter_context(worker)
            worker.wait_for(" ready.")
        stack.enter_context(CeleryProcess("beat", "--pidfile=", **urls, clock_file=jumping.path))
        seller = SellerProcess(
            database_url=database_url, redis_url=redis.url, seconds=16, clients=4, clock_file=jumping.path
        )
        stack.enter_context(seller)

        tag = new_id().hex
        begun, begun_at = database_now(connection), time.monotonic()
        items = []
        for shift_s in (HOUR_S, -HOUR_S, 0):
            items += [enqueue(connection, "test.slow", f"2:{tag}") for _ in range(2)]
            items += [enqueue(connection, "test.quick", f"q:{tag}") for _ in range(10)]
            time.sleep(2)
            jumping.move(shift_s)
        sold = seller.result()
        wait_done(connection, items)
        elapsed_s = time.monotonic() - begun_at

        assert (sold.failed, sold.not_billed, sold.charged_differently) == ((), 0, 0)
        assert sold.acknowledged > 20
        assert books_of(database_url).balanced
        early = rows(
            connection, "select count(*) from transfer where code = 'hold_expired' and created_at > %s", begun
        )
        assert early == [(0,)], "a hold or lease was given back before its time"
        assert effects(connection, "begun", f"2:{tag}") == effects(connection, "test.slow", f"2:{tag}") == 6
        assert effects(connection, "test.quick", f"q:{tag}") == 30
        assert elapsed_s / 5 - 1 <= ticks_since(connection, begun) <= elapsed_s + 2
        overlapping = rows(
            connection,
            "select count(*) from task_run a join task_run b on a.name = b.name and a.id < b.id"
            " where a.outbox_id is null and b.outbox_id is null and b.created_at < a.finished_at and a.created_at > %s",
            begun,
        )
        assert overlapping == [(0,)], "a periodic ran twice at a time"
