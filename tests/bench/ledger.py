"""Ledger posting: transfers per second in batches of 1,000, against pgbench's TPC-B on the same server.

Rounds alternate (A B A B ...), the figure is the ratio of the medians. pgbench: scale 20, 8 clients, prepared statements.
The ledger: what the poster writes, 333 usages of random customers as charge, earning and fee, and one grant; each batch
is one call of `ledger_post_batch` in its own transaction, with fsync like pgbench's.
"""

import random
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.postgres_binaries import programs
from raymart_local.program import unprivileged_account
from raymart_marketplace.db.migrate import upgrade
from support.figures import Figure

ROUNDS = 5
ROUND_S = 6
PGBENCH_CLIENTS = 8
LEDGER_CLIENTS = 4
CUSTOMERS, PROVIDERS = 10_000, 100
BATCH = 1_000
MUST, AIM = 4.0, 8.0

_POST = "select ledger_post_batch(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[])"
_OPEN = """
    insert into ledger_account (kind, owner_id, asset, may_overdraw)
    select kind, gen_random_uuid(), 'usd', false from generate_series(1, %s), unnest(%s::text[]) kind
"""


def measure() -> Sequence[Figure]:
    """Run the rounds on a server of their own."""
    with tempfile.TemporaryDirectory(prefix="raymart-bench-ledger-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            ratio, ledger, tpcb = _measured(server)
        finally:
            server.destroy()
    return [
        Figure(
            name="batches of 1,000 / pgbench TPC-B",
            measured=f"{ratio:.1f}x ({ledger:,.0f} transfers/s / {tpcb:,.0f} tps)",
            target=f"must >= {MUST:g}x, aim >= {AIM:g}x",
            holds=ratio >= MUST,
        )
    ]


def _measured(server: EmbeddedPostgres) -> tuple[float, float, float]:
    upgrade(server.url)
    _pgbench(server, "--initialize", "--quiet", "--scale=20")
    accounts = Accounts(server.url)
    tpcb, ledger = [], []
    for _ in range(ROUNDS):
        tpcb.append(_tpcb(server))
        ledger.append(_ledger(server.url, accounts))
    return (
        statistics.median(ledger) / statistics.median(tpcb),
        statistics.median(ledger),
        statistics.median(tpcb),
    )


def _tpcb(server: EmbeddedPostgres) -> float:
    said = _pgbench(
        server,
        f"--client={PGBENCH_CLIENTS}",
        "--jobs=2",
        "--protocol=prepared",
        f"--time={ROUND_S}",
        "--no-vacuum",
    )
    found = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
    assert found, said
    return float(found[1])


def _pgbench(server: EmbeddedPostgres, *arguments: str) -> str:
    url = urlsplit(server.url)
    program = programs(unprivileged_account()) / "pgbench"
    done = subprocess.run(
        [
            program,
            *arguments,
            "-h",
            str(url.hostname),
            "-p",
            str(url.port),
            "-U",
            str(url.username),
            url.path[1:],
        ],
        env={"PGPASSWORD": str(url.password)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout


class Accounts:
    """The accounts of the bench: customers with money, their clearing accounts, providers, the platform's."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_OPEN, (PROVIDERS, ["provider_payable"]))
            connection.execute(
                "insert into ledger_account (kind, owner_id, asset, may_overdraw)"
                " select kind, owner, 'usd', false from"
                " (select gen_random_uuid() as owner from generate_series(1, %s)) made,"
                " unnest(array['customer_balance', 'usage_clearing']) kind",
                (CUSTOMERS,),
            )
            rows = connection.execute(
                "select b.id, c.id from ledger_account b join ledger_account c using (owner_id)"
                " where b.kind = 'customer_balance' and c.kind = 'usage_clearing'"
            ).fetchall()
            self.customers: list[tuple[int, int]] = [(balance, clearing) for balance, clearing in rows]
            self.providers = self._ids(connection, "provider_payable")
            [self.fee] = self._ids(connection, "platform_fee")
            [self.promotion] = self._ids(connection, "promotional_credit")
            for start in range(0, CUSTOMERS, BATCH):
                batch = [
                    (self.promotion, balance, 10**12, "credit_grant")
                    for balance, _ in self.customers[start : start + BATCH]
                ]
                connection.execute(_POST, _columns(batch))
            connection.execute("vacuum analyze ledger_account, transfer")

    def batch(self) -> list[tuple[int, int, int, str]]:
        """(debit, credit, amount, code) of 1,000 transfers."""
        made = [(self.promotion, self.customers[0][0], 1, "credit_grant")]
        for _ in range(BATCH // 3):
            balance, clearing = random.choice(self.customers)
            made += [
                (balance, clearing, 100, "usage_charge"),
                (clearing, random.choice(self.providers), 90, "usage_earning"),
                (clearing, self.fee, 10, "usage_fee"),
            ]
        return made

    @staticmethod
    def _ids(connection: psycopg.Connection, kind: str) -> list[int]:
        rows = connection.execute("select id from ledger_account where kind = %s", (kind,)).fetchall()
        return [number for (number,) in rows]


def _columns(batch: Sequence[tuple[int, int, int, str]]) -> list[list[object]]:
    return [[f"usage:{new_id()}:x" for _ in batch], *(list(column) for column in zip(*batch, strict=True))]


def _ledger(url: str, accounts: Accounts) -> float:
    """Transfers per second of `LEDGER_CLIENTS` connections."""
    posted = [0] * LEDGER_CLIENTS
    begun = time.monotonic()

    def run(client: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while time.monotonic() - begun < ROUND_S:
                connection.execute(_POST, _columns(accounts.batch()))
                posted[client] += BATCH

    threads = [threading.Thread(target=run, args=(client,)) for client in range(LEDGER_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(posted) / (time.monotonic() - begun)
