"""The broker may go: Redis is flushed and stopped under load, and no money and no work is lost."""

import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg
from redis import Redis

from raymart_billing.work.celery_hints import CeleryHints
from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from support.celery_processes import EFFECT_TABLE, CeleryProcess
from support.figures import Figure
from support.seller_process import SellerProcess, Sold, books_of

FLUSHES, AWAY_S = 3, 12.0
LOAD_S = 40.0
CLIENTS = 8
TASKS_EVERY_S = 0.05
DEGRADED_S_MAX, DONE_S_MAX = 5.0, 30.0


class Asking(threading.Thread):
    """Commits an outbox row every 50 ms and gives its hint, as the API does, until it is ended."""

    def __init__(self, database_url: str, broker_url: str) -> None:
        super().__init__(daemon=True)
        self._database_url = database_url
        self._hints = CeleryHints(broker_url)
        self._ended = threading.Event()
        self.asked = 0

    def run(self) -> None:
        """Ask until `end`."""
        self._hints.start()
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            while not self._ended.wait(TASKS_EVERY_S):
                outbox_id = new_id()
                connection.execute(
                    "insert into outbox (id, task, subject) values (%s, 'test.quick', %s)",
                    (outbox_id, str(outbox_id)),
                )
                self._hints.give(outbox_id)
                self.asked += 1

    def end(self) -> None:
        """Stop asking."""
        self._ended.set()
        self.join(30)
        self._hints.close()


def measure() -> Sequence[Figure]:
    """Start a gateway under load, a Celery worker and beat; flush Redis, stop it, start it again."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-promise-7-")))
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        upgrade(postgres.url)
        connection = stack.enter_context(psycopg.connect(postgres.url, autocommit=True))
        connection.execute(EFFECT_TABLE)
        urls = {"database_url": postgres.url, "redis_url": redis.url}
        worker = CeleryProcess(
            "worker", "--pool=solo", "--without-gossip", "--without-mingle", broker_url=redis.url, **urls
        )
        stack.enter_context(worker)
        worker.wait_for(" ready.")
        stack.enter_context(CeleryProcess("beat", "--pidfile=", broker_url=redis.url, **urls))
        seller = stack.enter_context(SellerProcess(**urls, seconds=LOAD_S, clients=CLIENTS))
        asking = Asking(postgres.url, redis.url)
        asking.start()
        done_away, done_after_s = _break(redis, connection, asking)
        sold = seller.result()
        return [*_money(sold, postgres.url), *_work(connection, asking, done_away, done_after_s)]


def _break(redis: EmbeddedRedis, connection: psycopg.Connection, asking: Asking) -> tuple[int, float]:
    """(rows done while the broker was away, seconds from its return until every row asked for till then was done)."""
    for _ in range(FLUSHES):
        time.sleep(2)
        with Redis.from_url(redis.url) as client:
            client.flushall()
    redis.stop()
    before = _done(connection)
    time.sleep(AWAY_S)
    done_away = _done(connection) - before
    redis.start()
    returned = time.monotonic()
    asking.end()
    while _done(connection) < asking.asked and time.monotonic() < returned + 2 * DONE_S_MAX:
        time.sleep(0.05)
    return done_away, time.monotonic() - returned


def _done(connection: psycopg.Connection) -> int:
    [[done]] = connection.execute(
        "select count(*) from outbox where task = 'test.quick' and state = 'done'"
    ).fetchall()
    return int(done)


def _money(sold: Sold, database_url: str) -> Sequence[Figure]:
    books = books_of(database_url)
    errors = sold.not_billed + (sold.charged_differently > 0) + (not books.balanced)
    return [
        Figure(
            name="money errors: acknowledged and not billed once, or books that do not balance",
            measured=f"{errors} in {sold.acknowledged} requests",
            target="0",
            holds=errors == 0 and sold.acknowledged > 0,
        ),
        Figure(
            name="requests that failed",
            measured=f"{len(sold.failed)} {sold.failed[0] if sold.failed else ''}".strip(),
            target="0",
            holds=not sold.failed,
        ),
        Figure(
            name="service degraded: longest time without an answer",
            measured=f"{sold.longest_gap_s:.2f} s",
            target=f"<= {DEGRADED_S_MAX:g} s",
            holds=sold.longest_gap_s <= DEGRADED_S_MAX,
        ),
    ]


def _work(
    connection: psycopg.Connection, asking: Asking, done_away: int, done_after_s: float
) -> Sequence[Figure]:
    [[effects, subjects]] = connection.execute(
        "select count(*), count(distinct subject) from test_effect where task = 'test.quick'"
    ).fetchall()
    return [
        Figure(
            name="tasks that took effect exactly once",
            measured=f"{subjects} of {asking.asked}, {effects} effects",
            target="all, once",
            holds=effects == subjects == asking.asked > 0,
        ),
        Figure(
            name="every task done after the broker's return",
            measured=f"{done_after_s:.2f} s",
            target=f"<= {DONE_S_MAX:g} s",
            holds=done_after_s <= DONE_S_MAX,
        ),
        Figure(
            name=f"tasks done in the {AWAY_S:g} s without a broker",
            measured=str(done_away),
            target="> 0: Celery only hints",
            holds=done_away > 0,
        ),
    ]
