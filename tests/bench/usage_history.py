"""Generated usage: 10 million finished requests of this month, made by PostgreSQL itself, in a server of their own.

What is drawn, from a hash of the request's number, so that two runs have the same rows: a customer by Zipf's law (the
largest of 2,000 has 9 % of all requests), one of its 1 to 5 keys and of its 1 to 8 models (of all 30 for the 20 largest),
and one of the model's 8 sellers among 50 providers; the first of each is the favourite. Arrivals are spread evenly over
the month up to now, and ids rise with them. Each request is one row in each table, delivered at its first attempt, its
usage posted.

Each table's month becomes a new partition, filled before it is attached: PostgreSQL then gives it every index and
constraint of its parent. Both tables fill in one transaction each without WAL (`wal_level = minimal`), which is over,
with the server's own settings again, before anything is measured.
"""

import asyncio
import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from uuid import UUID

import psycopg
from progress import say

from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade

ROWS = int(os.environ.get("RAYMART_BENCH_USAGE_ROWS", "10000000"))
"""Smaller only while one works on a bench."""
CUSTOMERS = 2_000
MODELS = 30
SELLERS = 8
"""Of each model."""
PROVIDERS = 50
SLICE = 500_000
"""Rows between two lines of progress."""

_DIMENSIONS = """
    create schema drawn;
    -- A uuid that says what it is of, and which.
    create function drawn.uuid_of(kind integer, number bigint) returns uuid language sql immutable as $$
        select ('00000000-0000-4000-80' || lpad(to_hex(kind), 2, '0') || '-' || lpad(to_hex(number), 12, '0'))::uuid
    $$;
    create table drawn.customer as
    select rank, drawn.uuid_of(0, rank) as organization_id,
           case when rank <= 20 then 5 else 1 + (hashint8(rank) & 1023) % 5 end as keys,
           case when rank <= 20 then {models} else 1 + (hashint8(rank + 7) & 1023) % 8 end as models,
           (hashint8(rank + 13) & 1023) % {models} as model_first
      from generate_series(1::bigint, {customers}) rank;
    create table drawn.offer as
    select model, seller, drawn.uuid_of(3, model) as revision_id,
           drawn.uuid_of(4, (model * 7 + seller * 11) % {providers}) as provider_id,
           drawn.uuid_of(5, model * 100 + seller) as offer_id, drawn.uuid_of(6, model * 100 + seller) as endpoint_id,
           drawn.uuid_of(7, model * 100 + seller) as node_id, 2 + model as price_prompt, 5 + 2 * model as price_completion,
           'maker-' || model % 9 || '/model-' || model as slug
      from generate_series(0::bigint, {models} - 1) model, generate_series(0::bigint, {sellers} - 1) seller;
    analyze drawn.customer, drawn.offer;
"""
_MADE = """
    select (lpad(to_hex(ms), 12, '0') || '7' || substr(scrambled, 1, 3) || '8' || substr(scrambled, 4, 15))::uuid as id,
           (lpad(to_hex(ms), 12, '0') || '7' || substr(scrambled, 18, 3) || '9' || substr(scrambled, 4, 15))::uuid as attempt_id,
           to_timestamp(ms / 1000.0) as arrived, c.organization_id,
           -- Two keys share a project.
           drawn.uuid_of(1, c.rank * 10 + key / 2) as project_id, drawn.uuid_of(2, c.rank * 10 + key) as api_key_id,
           o.*, 10 + (hash & 511) as prompt, 1 + ((hash >> 9) & 255) as completion,
           10 + ((hash >> 17) & 127)::integer as first_token_ms
      from (
        select {start_ms} + (n * {step_ms})::bigint as ms, md5(n::text) as scrambled,
               hashint8extended(n, 1) as draw, hashint8extended(n, 2) as hash
          from generate_series({first}::bigint, {last}::bigint) n
      ) numbers
      -- The power of a uniform draw is distributed as 1 / rank, but for the rounding.
      join drawn.customer c on c.rank = floor(exp(ln({customers} + 1) * (draw & 16777215) / 16777216.0::float8))::bigint
     cross join lateral (
        -- Squares of uniform draws: the first is the favourite.
        select floor(c.keys * (((draw >> 24) & 4095) / 4096.0::float8) ^ 2)::bigint as key,
               (c.model_first + floor(c.models * (((draw >> 36) & 4095) / 4096.0::float8) ^ 2)::bigint) % {models} as model,
               floor({sellers} * (((draw >> 48) & 4095) / 4096.0::float8) ^ 2)::bigint as seller
     ) choice
      join drawn.offer o on o.model = choice.model and o.seller = choice.seller
"""
_FILLS = {
    "request": """
        insert into {into} (
            id, created_at, organization_id, project_id, api_key_id, surface, model_asked, model_served, state,
            finish_reason, streamed, first_token_ms, duration_ms
        )
        select id, arrived, organization_id, project_id, api_key_id, 'rest', slug, slug, 'completed', 'stop', true,
               first_token_ms, first_token_ms + 10 * completion
          from ({made}) made
    """,
    "attempt": """
        insert into {into} (
            id, created_at, request_id, position, endpoint_id, provider_id, node_id, outcome, fault, reason,
            tokens_delivered, first_token_ms, duration_ms
        )
        select attempt_id, arrived, id, 0, endpoint_id, provider_id, node_id, 'delivered', 'none', '', completion,
               first_token_ms, first_token_ms + 10 * completion
          from ({made}) made
    """,
    "usage_record": """
        insert into {into} (
            id, created_at, organization_id, project_id, api_key_id, provider_id, endpoint_id, offer_id, revision_id,
            tokens_prompt, tokens_completion, price_prompt_nano_usd, price_completion_nano_usd, customer_nano_usd,
            provider_nano_usd, fee_nano_usd, exact, posted_at
        )
        select id, arrived, organization_id, project_id, api_key_id, provider_id, endpoint_id, offer_id, revision_id,
               prompt, completion, price_prompt, price_completion, amount, amount - amount / 10, amount / 10, true,
               arrived
          from ({made}) made, lateral (select prompt * price_prompt + completion * price_completion as amount) priced
    """,
}
_BOUNDS = """
    select to_char(start, 'YYYYMM'), usage_first_id(start), usage_first_id(start + interval '1 month'),
           (extract(epoch from start) * 1000)::bigint,
           (extract(epoch from (clock_timestamp() at time zone 'UTC') - start) * 1000)::bigint
      from (select date_trunc('month', clock_timestamp() at time zone 'UTC') as start) month
"""
_BYTES_A_ROW = 2_000
"""Of all three tables, their indexes, and what making those takes."""
_WITHOUT_WAL = {"wal_level": "minimal", "max_wal_senders": "0", "maintenance_work_mem": "'256MB'"}


def customer_id(rank: int) -> UUID:
    """The organization of the customer with that many requests: 1 has most, `CUSTOMERS` fewest."""
    return UUID(f"00000000-0000-4000-8000-{rank:012x}")


def rank_drawn(draw: float) -> int:
    """The rank of a customer by Zipf's law, from a uniform draw in [0, 1)."""
    return int(math.exp(math.log(CUSTOMERS + 1) * draw))


class UsageHistory:
    """The server, and what it was asked to hold. Nothing is started before something is asked for."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._filled: set[str] = set()

    def url_with(self, *tables: str) -> str:
        """URL of the database, as its superuser, with `ROWS` rows in each of `tables`; what is there already stays."""
        if self._server.pid is None:
            _require_space(Path(tempfile.gettempdir()))
            say("starting PostgreSQL")
            upgrade(self._server.start())
            with psycopg.connect(self._server.url) as connection:
                connection.execute(
                    _DIMENSIONS.format(
                        customers=CUSTOMERS, models=MODELS, sellers=SELLERS, providers=PROVIDERS
                    )
                )
        missing = [table for table in tables if table not in self._filled]
        if missing:
            self._restarted(_WITHOUT_WAL)
            asyncio.run(_fill(self._server.url, missing))
            self._restarted({})
            self._filled.update(missing)
        return self._server.url

    def beside(self, name: str) -> str:
        """URL of an empty, migrated database on the same server; made on first use."""
        url = self._server.url.rpartition("/")[0] + f"/{name}"
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            if not connection.execute("select from pg_database where datname = %s", (name,)).fetchone():
                connection.execute(f"create database {name}")
                upgrade(url)
        return url

    def _restarted(self, settings: dict[str, str]) -> Self:
        """Restart the server, which writes out all it holds, with the product's settings but for `settings`."""
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute("alter system reset all")
            for name, value in settings.items():
                connection.execute(f"alter system set {name} = {value}")
        self._server.stop()
        self._server.start()
        return self


@contextlib.contextmanager
def usage_history() -> Iterator[UsageHistory]:
    """A history of usage below the folder for temporary files; it leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="raymart-bench-") as directory:
        # The server's account can reach its cluster there; else it would be kept in that account's own folder.
        Path(directory).chmod(0o755)
        server = EmbeddedPostgres(Path(directory) / "pg")
        try:
            yield UsageHistory(server)
        finally:
            server.destroy()


def _require_space(folder: Path) -> None:
    free, needed = shutil.disk_usage(folder).free, ROWS * _BYTES_A_ROW
    if free < needed:
        raise SystemExit(
            f"{ROWS:,} rows need {needed / 1e9:.0f} GB below {folder}, and {free / 1e9:.0f} GB are free;"
            " set TMPDIR to a folder with more, or RAYMART_BENCH_USAGE_ROWS to fewer"
        )


async def _fill(url: str, tables: list[str]) -> None:
    """Write `ROWS` rows into this month of each of `tables`, all of them at once."""
    async with asyncio.TaskGroup() as group:
        for table in tables:
            group.create_task(_fill_table(url, table))


async def _fill_table(url: str, table: str) -> None:
    begun = time.monotonic()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        bounds = await (await connection.execute(_BOUNDS)).fetchone()
        assert bounds is not None
        month, low, high, start_ms, span_ms = bounds
        partition = f"usage_month.{table}_{month}"
        await connection.execute(f"drop table {partition}")
        await connection.execute(
            f"create table {partition} (like {table} including defaults including constraints)"
        )
        for first in range(0, ROWS, SLICE):
            made = _MADE.format(
                models=MODELS, sellers=SELLERS, customers=CUSTOMERS, start_ms=start_ms, step_ms=span_ms / ROWS,
                first=first, last=min(first + SLICE, ROWS) - 1,
            )  # fmt: skip
            await connection.execute(_FILLS[table].format(into=partition, made=made))
            say(f"{table}: {min(first + SLICE, ROWS):,} of {ROWS:,} rows")
        say(f"{table}: attaching the partition, which makes its indexes")
        await connection.execute(
            f"alter table {table} attach partition {partition} for values from ('{low}') to ('{high}')"
        )
        await connection.commit()
        await connection.set_autocommit(True)
        await connection.execute(f"vacuum analyze {partition}")
    say(f"{table}: ready after {time.monotonic() - begun:.0f} s")
