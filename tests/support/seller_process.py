"""A selling gateway as a child process, and whether the books agree with what it acknowledged."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from raymart_billing.ledger import TrialBalance, trial_balance
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.celery_processes import TESTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """How the load went, from the clients' side and from the books'."""

    acknowledged: int
    failed: tuple[str, ...]
    longest_gap_s: float
    not_billed: int
    """Acknowledged requests without a posted usage record."""
    charged_differently: int
    """Nano-USD between what the usage records add up to and what the customer was charged."""


class SellerProcess:
    """`support.selling`, for `seconds` by `clients` at a time."""

    def __init__(
        self,
        *,
        database_url: str,
        redis_url: str,
        seconds: float,
        clients: int,
        clock_file: Path | None = None,
    ) -> None:
        self._database_url = database_url
        moved = [] if clock_file is None else ["support.moved_clock"]
        load = ["support.selling", database_url, redis_url, str(seconds), str(clients)]
        self._argv = [sys.executable, "-m", *moved, *load]
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(TESTS),
            **({"MOVED_CLOCK_FILE": str(clock_file)} if clock_file else {}),
        }

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._argv, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self._process.stdout.readline()
        if line != "selling\n":
            raise RuntimeError(self._process.communicate(timeout=30)[1][-3_000:])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate(timeout=30)

    def result(self, *, timeout_s: float = 120) -> Sold:
        """Wait for its end and compare with the books."""
        out, err = self._process.communicate(timeout=timeout_s)
        if self._process.returncode != 0:
            raise RuntimeError(err[-3_000:])
        return self._audit(json.loads(out.splitlines()[-1]))

    def _audit(self, told: dict[str, Any]) -> Sold:
        with psycopg.connect(self._database_url) as connection:
            [[billed]] = connection.execute(
                "select count(*) from usage_record where id = any(%s::uuid[]) and posted_at is not null",
                (told["acknowledged"],),
            ).fetchall()
            [[used]] = connection.execute(
                "select coalesce(sum(customer_nano_usd), 0) from usage_record where organization_id = %s",
                (told["organization_id"],),
            ).fetchall()
            [[charged]] = connection.execute(
                "select debits_posted from ledger_account where owner_id = %s and kind = 'customer_balance'",
                (told["organization_id"],),
            ).fetchall()
        return Sold(
            acknowledged=len(set(told["acknowledged"])),
            failed=tuple(told["failed"]),
            longest_gap_s=told["longest_gap_s"],
            not_billed=len(set(told["acknowledged"])) - billed,
            charged_differently=abs(int(used) - int(charged)),
        )


def books_of(database_url: str) -> TrialBalance:
    """The trial balance, from a thread without an event loop."""

    async def read() -> TrialBalance:
        engine = make_engine(database_url, pool_size=1)
        try:
            async with session_scope(make_sessions(engine)) as session:
                return await trial_balance(session)
        finally:
            await engine.dispose()

    return asyncio.run(read())
