"""Generated usage: millions of finished requests of one month, made by PostgreSQL itself, and a server to keep them in."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade

ROWS = int(os.environ.get("RAYMART_BENCH_USAGE_ROWS", "10000000"))
"""Smaller only while one works on a bench."""
CUSTOMERS = 1_000
PROJECTS = 2
"""Of each customer."""
KEYS = 3
"""Of each project."""
REVISIONS = 20
PROVIDERS = 50
SLICE = 1_000_000

_INDEXES = """
    select indexname, indexdef from pg_indexes
     where schemaname = 'public' and tablename = %s and indexname not in (
        select conname from pg_constraint where contype = 'p'
     )
"""
_MADE = """
    -- Evenly over the month that `start` is in up to now, so that ids rise as they do when they are made.
    select (lpad(to_hex((extract(epoch from start) * 1000 + n * step)::bigint), 12, '0')
            || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid as id,
           ('00000000-0000-4000-8000-' || lpad(to_hex(customer), 12, '0'))::uuid as organization_id,
           ('00000000-0000-4000-8001-' || lpad(to_hex(customer * 10 + key % {projects}), 12, '0'))::uuid as project_id,
           ('00000000-0000-4000-8002-' || lpad(to_hex(customer * 100 + key), 12, '0'))::uuid as api_key_id,
           ('00000000-0000-4000-8003-' || lpad(to_hex(n % {providers}), 12, '0'))::uuid as provider_id,
           ('00000000-0000-4000-8004-' || lpad(to_hex(n % {revisions}), 12, '0'))::uuid as revision_id,
           10 + n % 500 as prompt, 1 + n % 300 as completion
      from (
        select n, md5(n::text) as hash, (hashint8(n) & 1073741823) % {customers} as customer,
               (hashint8(n + 7) & 1073741823) % {keys} as key
          from generate_series({first}::bigint, {last}::bigint) n
      ) numbers,
      lateral (select date_trunc('month', clock_timestamp() at time zone 'UTC') as start) month,
      lateral (
        select extract(epoch from (clock_timestamp() at time zone 'UTC') - start) * 1000 / {rows} as step
      ) paced
"""
_FILLS = {
    "request": """
        insert into request (
            id, created_at, organization_id, project_id, api_key_id, surface, model_asked, model_served, state,
            finish_reason, streamed, first_token_ms, duration_ms
        )
        select id, clock_timestamp(), organization_id, project_id, api_key_id, 'rest', 'raymart/demo-chat',
               'raymart/demo-chat', 'completed', 'stop', true, 12, 40
          from ({made}) made
    """,
    "attempt": """
        insert into attempt (
            id, created_at, request_id, position, endpoint_id, provider_id, node_id, outcome, fault, reason,
            tokens_delivered, first_token_ms, duration_ms
        )
        select id, clock_timestamp(), id, 0, revision_id, provider_id, provider_id, 'delivered', 'none', '', completion,
               12, 40
          from ({made}) made
    """,
    "usage_record": """
        insert into usage_record (
            id, organization_id, project_id, api_key_id, provider_id, endpoint_id, offer_id, revision_id,
            tokens_prompt, tokens_completion, price_prompt_nano_usd, price_completion_nano_usd, customer_nano_usd,
            provider_nano_usd, fee_nano_usd, exact, posted_at
        )
        select id, organization_id, project_id, api_key_id, provider_id, revision_id, revision_id, revision_id, prompt,
               completion, 2, 5, 2 * prompt + 5 * completion,
               2 * prompt + 5 * completion - (2 * prompt + 5 * completion) / 10, (2 * prompt + 5 * completion) / 10,
               true, clock_timestamp()
          from ({made}) made
    """,
}


@contextlib.contextmanager
def bench_server() -> Iterator[EmbeddedPostgres]:
    """A migrated server below /tmp that leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="raymart-bench-") as directory:
        server = EmbeddedPostgres(Path(directory) / "pg")
        try:
            upgrade(server.start())
            with psycopg.connect(server.url, autocommit=True) as connection:
                # Room for the load: no checkpoint every few seconds while millions of rows come in.
                connection.execute("alter system set max_wal_size = '8GB'")
                connection.execute("select pg_reload_conf()")
            yield server
        finally:
            server.destroy()


def fill(url: str, *tables: str) -> None:
    """Write `ROWS` rows into each of `tables`: without its indexes, which are made anew behind them."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute("set maintenance_work_mem = '512MB'")
        for table in tables:
            indexes = connection.execute(_INDEXES, (table,)).fetchall()
            for name, _ in indexes:
                connection.execute(f"drop index {name}")
            connection.execute(f"alter table {table} drop constraint pk_{table}")
            for first in range(0, ROWS, SLICE):
                made = _MADE.format(
                    projects=PROJECTS, providers=PROVIDERS, revisions=REVISIONS, customers=CUSTOMERS,
                    keys=PROJECTS * KEYS, first=first, last=min(first + SLICE, ROWS) - 1, rows=ROWS,
                )  # fmt: skip
                connection.execute(_FILLS[table].format(made=made))
            connection.execute(f"alter table {table} add constraint pk_{table} primary key (id)")
            for _, definition in indexes:
                connection.execute(definition.replace(" ON ONLY ", " ON "))
            connection.execute(f"analyze {table}")


def percentile(samples: list[float], share: float) -> float:
    """The value that `share` of `samples` are at most."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]
