"""A database, a chain and two workers for the chaos of promise 5, and what becomes of batches under one fault."""

import json
import multiprocessing
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from solders.keypair import Keypair

from raymart_billing.payouts.sending.failpoints import Failpoint
from raymart_local.postgres import EmbeddedPostgres
from support.celery_processes import TESTS
from support.chaos_chain import ControlledChain, token_account_of
from support.payout_chaos_worker import WorkerConfig, work
from support.payout_planning import Payee, Planner

WORKERS = 2
PART_SIZE = 57
SLOT_S = 0.02
KILLED = -9
BATCH_SIZE = 3 * PART_SIZE
SIEGE_S_MAX = 280.0
EACH_LOOK = 0.1
"""Chance of a fork, or of rows that are lost, at each look at the workers."""
AMOUNT_MAX = 3_000_000
"""Micro-USDC of one payee; all of a run stay below the caps of a day."""


class Fault(StrEnum):
    """What goes wrong beside the kills."""

    DROP = "drop"
    """What is sent never lands."""
    ERROR_BEFORE = "error before landing"
    ERROR_AFTER = "error after landing"
    HIDDEN = "status hidden"
    """Statuses of what has landed are null."""
    FORK = "fork"
    SLOW = "slow finality"
    LOST = "attempts lost"
    """The rows of all attempts are deleted behind the guards, twice."""
    RESTORED = "database restored"
    """After everything was paid, the database comes back from a backup that was taken while it was being sent."""


@dataclass(slots=True)
class Tally:
    """What became of all payees under one fault."""

    kills: Counter[Failpoint] = field(default_factory=Counter)
    payees: int = 0
    over: int = 0
    under: int = 0
    returned: int = 0
    """Payees that could not be paid, and whose money is theirs again."""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class World:
    """One database on `server`, one chain, one treasury."""

    def __init__(
        self, server: EmbeddedPostgres, chain: ControlledChain, directory: Path, *, has_markers: bool
    ) -> None:
        self._server = server
        self.chain = chain
        self._name = urlsplit(server.url).path.removeprefix("/")
        treasury = Keypair()
        keypair_path = directory / "treasury.json"
        keypair_path.touch(mode=0o600)
        keypair_path.write_text(json.dumps(list(bytes(treasury))))
        self.config = WorkerConfig(
            database_url=server.runtime_url,
            nodes=chain.nodes,
            mint=chain.mint,
            keypair_path=str(keypair_path),
            treasury=str(treasury.pubkey()),
            log_path=str(directory / "workers.log"),
            has_markers=has_markers,
        )
        chain.do("fund", self.config.treasury, 10**12, 10**14)
        self._context = multiprocessing.get_context("forkserver")
        _start_forkserver()
        self._planner = self._new_planner()
        self._session: psycopg.Connection[tuple[Any, ...]] | None = None

    def _new_planner(self) -> Planner:
        return Planner(psycopg.connect(self._server.runtime_url, autocommit=True), mint=self.config.mint)

    @contextmanager
    def owner(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A session that no guard stops, as a restore or a superuser is."""
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            yield connection

    def fetch(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows, by one session that is kept: to log in costs more than to ask."""
        if self._session is None:
            self._session = psycopg.connect(self._server.url, autocommit=True)
        return self._session.execute(statement, parameters).fetchall()

    def plan(self, count: int, *, without_account: int, frozen: int) -> UUID:
        """An approved batch of `count` payees with wallets of their own; the last ones have no token account, or a frozen one."""
        wallets = [str(Keypair().pubkey()) for _ in range(count)]
        self.chain.do("open_accounts", wallets[without_account:])
        for wallet in wallets[count - frozen :]:
            self.chain.do("freeze", wallet)
        payees = [
            Payee(wallet, str(token_account_of(wallet, self.chain.mint)), random.randint(1, AMOUNT_MAX))
            for wallet in wallets
        ]
        return self._planner.plan(payees, part_size=PART_SIZE)

    def is_over(self, batch_id: UUID) -> bool:
        """Whether the batch has ended by its rows."""
        [[state]] = self.fetch("select state from payout_batch where id = %s", batch_id)
        return state == "finalized"

    def standing(self) -> str:
        """Where parts stand that have not ended, for whoever waits in vain."""
        rows = self.fetch(
            "select state, coalesce(state_reason, ''), count(*) from payout_part"
            " where state not in ('finalized', 'failed') group by 1, 2 order by 3 desc limit 3"
        )
        return "; ".join(f"{count} {state} {reason}" for state, reason, count in rows)

    def is_under_way(self, batch_id: UUID) -> bool:
        """Whether something of it was signed."""
        return bool(
            self.fetch(
                "select 1 from payout_attempt a join payout_part p on p.id = a.part_id where p.batch_id = %s limit 1",
                batch_id,
            )
        )

    def lose_attempts(self, batch_id: UUID) -> None:
        """Delete the rows of its attempts."""
        with self.owner() as connection:
            connection.execute(
                "delete from payout_attempt where part_id in (select id from payout_part where batch_id = %s)",
                (batch_id,),
            )

    def back_up(self) -> None:
        """Copy the database as it is. No worker runs meanwhile."""
        self._copy(f"{self._name}_backup", of=self._name)

    def restore(self) -> None:
        """Put the copy in the database's place."""
        self._copy(self._name, of=f"{self._name}_backup")

    def _copy(self, name: str, *, of: str) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        url = urlsplit(self._server.url)._replace(path="/postgres").geturl()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)".encode())
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (of,)
            )
            # A backend that was told to end is gone a moment later.
            while connection.execute("select 1 from pg_stat_activity where datname = %s", (of,)).fetchone():
                time.sleep(0.01)
            connection.execute(f"create database {name} template {of}".encode())
        # The planner's session has ended with the others.
        self._planner.reconnect(psycopg.connect(self._server.runtime_url, autocommit=True))

    def worker(self, failpoints: str) -> Any:
        """A running worker."""
        config = WorkerConfig(**{**_fields(self.config), "failpoints": failpoints})
        process = self._context.Process(target=work, args=(config,), daemon=True)
        process.start()
        return process

    def check(self, batch_id: UUID, tally: Tally) -> None:
        """Compare every payee's balance on chain with its item and with the ledger."""
        rows = self.fetch(
            "select i.wallet, i.amount_micro_usdc, i.state, coalesce(t.amount, 0) / 1000 from payout_item i"
            " left join transfer t on t.key = 'payout:' || i.id || ':settled' where i.batch_id = %s order by i.position",
            batch_id,
        )
        balances = self.chain.do("balances", [row[0] for row in rows])
        tally.payees += len(rows)
        for (wallet, amount, state, settled), balance in zip(rows, balances, strict=True):
            due = amount if state == "paid" else 0
            is_over = balance > due or balance > settled
            is_under = balance < due or balance < settled or state not in {"paid", "returned"}
            tally.returned += state == "returned"
            tally.over += is_over
            tally.under += is_under
            if is_over or is_under:
                tally.problems.append(
                    f"{wallet} has {balance} of {amount} ({state}), the ledger settled {settled}"
                )


def _start_forkserver() -> None:
    """The process that workers are forked from, with all that they import."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["support.payout_chaos_worker"])
    # The server itself looks in no other path for what it is to import beforehand.
    with_tests = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = with_tests
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _fields(config: WorkerConfig) -> Mapping[str, Any]:
    return {name: getattr(config, name) for name in WorkerConfig.__slots__}


class Siege:
    """Batches that are sent under one fault while workers die at one place after the other."""

    def __init__(
        self, world: World, fault: Fault, *, places: Sequence[Failpoint], kills_each: int, batches: int
    ) -> None:
        self._world = world
        self._fault = fault
        self._places = deque(place for _ in range(kills_each) for place in places)
        self._batches_min = batches
        self._batches: list[UUID] = []
        self._workers: list[tuple[Any, Failpoint | None]] = []
        self.tally = Tally()

    def run(self) -> Tally:
        """Send everything to its end, whatever happens, and look at every payee."""
        begun = time.monotonic()
        known = [self._plan() for _ in range(self._batches_min)]
        try:
            self._break()
            if self._fault is Fault.RESTORED:
                self._until(self._is_under_way)
                self._stop()
                self._world.back_up()
            self._until(self._is_over)
            self._stop()
            self._check(self._batches)
            if self._fault is Fault.RESTORED:
                self._come_back(known)
        finally:
            self._stop()
            self._world.chain.do("heal")
        self.tally.seconds = time.monotonic() - begun
        return self.tally

    def _come_back(self, known: Sequence[UUID]) -> None:
        """Everything was paid; now the database has forgotten it, and all that it knows is sent again."""
        self._world.restore()
        self._batches = list(known)
        self._until(self._is_over)
        again = self._check(known)
        # The same payees once more.
        self.tally.payees -= again

    def _check(self, batches: Sequence[UUID]) -> int:
        """Compare their payees with the chain; returns how many."""
        before = self.tally.payees
        for batch_id in batches:
            self._world.check(batch_id, self.tally)
        return self.tally.payees - before

    def _plan(self) -> UUID:
        self._batches.append(self._world.plan(BATCH_SIZE, without_account=2, frozen=1))
        return self._batches[-1]

    def _break(self) -> None:
        """Faults that are used up are set again whenever a worker has died."""
        counted = {
            Fault.DROP: ("drop", 6),
            Fault.ERROR_BEFORE: ("error_before_landing", 6),
            Fault.ERROR_AFTER: ("error_after_landing", 6),
            Fault.HIDDEN: ("hide_status", 60),
        }.get(self._fault)
        if counted is not None:
            self._set_on_all(*counted)
        if self._fault is Fault.SLOW:
            self._world.chain.do("finality", 120)

    def _set_on_all(self, name: str, count: int) -> None:
        for node in range(len(self._world.chain.nodes)):
            self._world.chain.do("faults", node, **{name: count})

    def _is_under_way(self) -> bool:
        return all(self._world.is_under_way(batch_id) for batch_id in self._batches)

    def _is_over(self) -> bool:
        """Whether all batches have ended and workers have died everywhere; plans another batch while they have not."""
        if not all(self._world.is_over(batch_id) for batch_id in self._batches):
            return False
        is_done = not self._places and all(place is None for _, place in self._workers)
        if not is_done:
            self._plan()
        return is_done

    def _until(self, is_done: Callable[[], bool]) -> None:
        """Keep two workers alive, to be killed at the next place, until `is_done`."""
        until = time.monotonic() + SIEGE_S_MAX
        while not is_done():
            if time.monotonic() > until:
                self.tally.problems.append(f"not over after {SIEGE_S_MAX:g} s; {self._world.standing()}")
            if len(self.tally.problems) > 0:
                return
            self._tend()
            self._meanwhile()
            time.sleep(0.1)

    def _tend(self) -> None:
        for worker, place in list(self._workers):
            if worker.exitcode is None:
                continue
            self._workers.remove((worker, place))
            if worker.exitcode == KILLED and place is not None:
                self.tally.kills[place] += 1
                self._break()
            else:
                self.tally.problems.append(f"a worker ended by itself with {worker.exitcode}")
        while len(self._workers) < WORKERS:
            place = self._places.popleft() if self._places else None
            self._workers.append((self._world.worker(place.value if place else ""), place))
            if place is Failpoint.AFTER_REBROADCAST:
                # Bytes are sent again only when nobody has seen them.
                self._set_on_all("drop", 3)

    def _stop(self) -> None:
        """End both workers; these kills are not counted, and the places where they were to die come again."""
        for worker, place in self._workers:
            worker.kill()
            worker.join()
            if place is not None:
                self._places.append(place)
        self._workers.clear()

    def _meanwhile(self) -> None:
        if random.random() > EACH_LOOK:
            return
        if self._fault is Fault.FORK:
            self._world.chain.do("fork", random.randint(1, 24))
        elif self._fault is Fault.LOST and self._places:
            self._world.lose_attempts(random.choice(self._batches))
