"""The audit log: what an entry adds to a transaction, and how long a million entries take to seal and to verify.

A transaction inserts one row and commits, with and without an act that it is made by, in turns; CPU is this process's
own, with SQLAlchemy and psycopg, and the time is the round trips' too. PostgreSQL keeps its promises about disks here.
The million is written by one statement in batches of transactions, sealed and verified as the worker and the operator do.
"""

import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from sqlalchemy import insert

from raymart_billing.audit.seal import seal
from raymart_billing.audit.verify import verify
from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace import audit
from raymart_marketplace.accounts.models import Organization, OrganizationKind
from raymart_marketplace.audit import Act, Actor, ActorKind, Origin
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions, session_scope
from support.figures import Figure

ENTRIES = 1_000_000
ROUNDS, TRANSACTIONS = 10, 200
WRITERS = 8
KEY = b"k" * 32
MUST_VERIFY_S = 120.0
_FILL = b"""
    insert into audit_entry (actor_kind, actor_id, acting_organization_id, organization_id, request_id, action,
                             subject_kind, subject_id, mentions, outcome, detail, origin_digest)
    select 'user', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'createApiKey', 'key',
           gen_random_uuid(), array[gen_random_uuid()], 'done',
           '{"input": {"project_id": "proj_01a1fab7585a745ba611261b11d9eda9", "name": "[hidden]", "expires_at": null},
             "changes": [{"insert": "api_key", "id": "01a1fab7-585a-745b-a611-261b11d9eda9", "values": {"name": "[hidden]"}}]}',
           sha256('x')
      from generate_series(1, 50000)
"""


def measure() -> Sequence[Figure]:
    """Run everything on a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="raymart-bench-audit-") as folder,
        EmbeddedPostgres(Path(folder)) as server,
    ):
        upgrade(server.owner_url)
        return asyncio.run(_measure(server))


async def _measure(server: EmbeddedPostgres) -> Sequence[Figure]:
    engine = make_engine(server.runtime_url, pool_size=WRITERS)
    try:
        sessions = make_sessions(engine)
        added = await _added(sessions)
        together = await _together(sessions)
    finally:
        await engine.dispose()
    sealed_s, verified_s, peak_mb = await _million(server)
    return [
        added,
        together,
        Figure(
            name=f"seal {ENTRIES:,} entries",
            measured=f"{sealed_s:.1f} s, {ENTRIES / sealed_s:,.0f}/s",
            target="keeps up with people",
            holds=True,
        ),
        Figure(
            name=f"verify {ENTRIES:,} entries",
            measured=f"{verified_s:.1f} s, peak RSS {peak_mb:.0f} MB",
            target=f"must <= {MUST_VERIFY_S:.0f} s",
            holds=verified_s <= MUST_VERIFY_S,
        ),
    ]


async def _added(sessions: Sessions) -> Figure:
    """The difference that an entry makes, of pairs of short rounds."""
    cpu, wall = [], []
    for number in range(ROUNDS):
        spent = {}
        for is_audited in (True, False) if number % 2 else (False, True):
            begun, cpu_begun = time.perf_counter(), time.process_time()
            for _ in range(TRANSACTIONS):
                await _change(sessions, is_audited=is_audited)
            spent[is_audited] = (time.process_time() - cpu_begun, time.perf_counter() - begun)
        cpu.append((spent[True][0] - spent[False][0]) * 1_000 / TRANSACTIONS)
        wall.append((spent[True][1] - spent[False][1]) * 1_000 / TRANSACTIONS)
    return Figure(
        name="an entry, added to a transaction",
        measured=f"{statistics.median(wall):.2f} ms, {statistics.median(cpu):.2f} ms of our CPU",
        target="no queue",
        holds=True,
    )


async def _together(sessions: Sessions) -> Figure:
    """Writers at once, with entries and without, in turns: nothing must make those with entries queue."""

    async def writer(*, is_audited: bool) -> None:
        for _ in range(TRANSACTIONS // 4):
            await _change(sessions, is_audited=is_audited)

    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(ROUNDS):
        for is_audited in (True, False) if number % 2 else (False, True):
            begun = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(WRITERS):
                    group.create_task(writer(is_audited=is_audited))
            rates[is_audited].append(WRITERS * (TRANSACTIONS // 4) / (time.perf_counter() - begun))
    audited, plain = statistics.median(rates[True]), statistics.median(rates[False])
    return Figure(
        name=f"{WRITERS} writers at once",
        measured=f"{audited:,.0f} transactions/s with entries, {plain:,.0f} without",
        target="at least a third as many",
        holds=audited * 3 >= plain,
    )


async def _change(sessions: Sessions, *, is_audited: bool) -> None:
    statement = insert(Organization).values(
        id=new_id(), slug=new_id().hex, name="Bench", kind=OrganizationKind.CUSTOMER
    )
    if not is_audited:
        async with session_scope(sessions) as session:
            await session.execute(statement)
        return
    act = Act(
        action="createOrganization",
        actor=Actor(kind=ActorKind.USER, id=new_id()),
        origin=Origin(address="192.0.2.1", user_agent="bench"),
        request_id=new_id(),
    )
    with audit.acting(act):
        async with session_scope(sessions) as session:
            await session.execute(statement)


async def _million(server: EmbeddedPostgres) -> tuple[float, float, float]:
    """Seconds to seal and to verify, and this process's peak memory in MB."""
    async with await psycopg.AsyncConnection.connect(server.owner_url, autocommit=True) as owner:
        for _ in range(ENTRIES // 50_000):
            await owner.execute(_FILL)
        await owner.execute("analyze audit_entry")
    async with await psycopg.AsyncConnection.connect(server.runtime_url, autocommit=True) as connection:
        begun = time.perf_counter()
        sealed = await seal(connection, key=KEY, head_file=None, limit_s=1_800)
        sealed_s = time.perf_counter() - begun
        assert sealed.rows >= ENTRIES, f"{sealed.entries} sealed"
        begun = time.perf_counter()
        found = await verify(connection, key=KEY, head=sealed.head)
        verified_s = time.perf_counter() - begun
        assert not found.findings, found.findings[:3]
    return sealed_s, verified_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
