"""The seals of the audit log: what its owner, or a superuser, edits is named; what is sealed cannot be preceded."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from raymart_billing.audit.seal import AuditBroken, seal
from raymart_billing.audit.verify import verify
from raymart_billing.connections import Connection
from raymart_billing.seals.head import read_head_file
from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from support.empty_database import migrated_database_url, name_of, new_database

__all__ = ["migrated_database_url"]

KEY = b"a" * 32
ENTRIES = 12


async def write(
    connection: Connection, action: str = "setBudget", *, address: str | None = "192.0.2.1"
) -> int:
    row = await (
        await connection.execute(
            "select audit_append(false, 'user', %s, null, null, %s, null, %s, %s, null, null, '{}', 'done',"
            ' \'{"input": {"limit": "1"}}\', %s, null)',
            (new_id(), new_id(), new_id(), action, address),
        )
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture(scope="module")
def sealed_template(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """Name of a database with a sealed audit log."""
    with new_database(postgres, template=migrated_template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for number in range(ENTRIES):
                connection.execute(
                    "select audit_append(false, 'operator', null, 'root', null, null, null, null, %s, null, null, '{}',"
                    " 'done', '{}', %s, 'test/1')",
                    (f"act {number}", "192.0.2.1" if number % 2 else None),
                )
        _seal_now(url)
        yield name_of(url)


def _seal_now(url: str) -> None:
    """In an event loop of its own, for a fixture has none."""

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await seal(connection, key=KEY, head_file=None)

    asyncio.run(run())


@pytest.fixture
async def log(postgres: EmbeddedPostgres, sealed_template: str) -> AsyncIterator[Connection]:
    """A superuser's connection to a copy of the template."""
    with new_database(postgres, template=sealed_template) as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            yield connection


async def spoil(connection: Connection, *statements: str) -> None:
    """As a superuser can: without triggers."""
    await connection.execute("set session_replication_role = replica")
    for statement in statements:
        await connection.execute(statement.encode())
    await connection.execute("set session_replication_role = origin")


class TestSealing:
    async def test_entries_are_sealed_once_in_their_order(self, log: Connection, tmp_path: Path):
        file = tmp_path / "head.json"
        first = await write(log)
        sealed = await seal(log, key=KEY, head_file=file)
        assert (sealed.rows, sealed.head.position) == (1, ENTRIES + 1)
        assert read_head_file(file) == sealed.head
        assert (await seal(log, key=KEY, head_file=file)).rows == 0
        found = await verify(log, key=KEY, head=sealed.head)
        assert (found.findings, found.sealed, found.unsealed) == ([], ENTRIES + 1, 0)
        assert first == ENTRIES + 1

    async def test_a_transaction_that_still_runs_holds_back_what_came_after_it(
        self, log: Connection, postgres: EmbeddedPostgres
    ):
        """Else its entry would slip in before a seal."""
        async with await psycopg.AsyncConnection.connect(log.info.dsn, password=log.info.password) as slow:
            early = await write(slow)
            await write(log)
            assert (await seal(log, key=KEY, head_file=None)).rows == 0
            await slow.commit()
        assert (await seal(log, key=KEY, head_file=None)).rows == 2
        [(entry_id,)] = await (
            await log.execute("select entry_id from audit_seal where position = %s", (ENTRIES + 1,))
        ).fetchall()
        assert entry_id == early

    async def test_two_sealers_do_not_seal_twice(self, log: Connection):
        await write(log)
        hashes = [b"x" * 32]
        for expected in (ENTRIES + 1, None):
            [(position,)] = await (
                await log.execute("select audit_seal_append(%s, array[13::bigint], %s)", (ENTRIES, hashes))
            ).fetchall()
            assert position == expected

    async def test_a_cut_end_stops_the_sealer(self, log: Connection, tmp_path: Path):
        file = tmp_path / "head.json"
        await write(log)
        await seal(log, key=KEY, head_file=file)
        await spoil(log, f"delete from audit_seal where position = {ENTRIES + 1}")
        with pytest.raises(AuditBroken, match=f"seals {ENTRIES + 1} to {ENTRIES + 1} are gone"):
            await seal(log, key=KEY, head_file=file)


EDITS = {
    "the actor": ("update audit_entry set actor_name = 'mallory' where id = 5", "entry 5 "),
    "the time": ("update audit_entry set created_at = created_at - interval '1 day' where id = 5", "entry 5 "),
    "the action": ("update audit_entry set action = 'nothing' where id = 5", "entry 5 "),
    "the detail": ("update audit_entry set detail = '{\"input\": 1}' where id = 5", "entry 5 "),
    "the outcome": ("update audit_entry set outcome = 'refused' where id = 5", "entry 5 "),
    "the subject": (
        "update audit_entry set subject_kind = 'key', subject_id = gen_random_uuid() where id = 5", "entry 5 ",
    ),
    "what it mentions": ("update audit_entry set mentions = array[gen_random_uuid()] where id = 5", "entry 5 "),
    "whose it is": ("update audit_entry set organization_id = gen_random_uuid() where id = 5", "entry 5 "),
    "the last one": ("update audit_entry set action = 'nothing' where id = 12", "entry 12 "),
    "the address": ("update audit_origin set address = '192.0.2.9' where entry_id = 6", "the address of entry 6 "),
    "a digest": ("update audit_entry set origin_digest = null where id = 6", "entry 6 "),
    "a seal": ("update audit_seal set hash = sha256('x') where position = 5", "the seal at position 5 "),
    "an entry is gone": (
        "delete from audit_origin where entry_id = 5; delete from audit_entry where id = 5", "entry 5 ",
    ),
    "an entry and its seal are gone": (
        (
            "delete from audit_origin where entry_id = 5; delete from audit_entry where id = 5;"
            " delete from audit_seal where entry_id = 5"
        ),
        "seals 5 to 5 are gone",
    ),
    "one is added to the past": (
        (
            "insert into audit_entry (xact_id, actor_kind, actor_name, action, mentions, outcome, detail)"
            " values (5, 'operator', 'root', 'act', '{}', 'done', '{}')"
        ),
        "entry 13 was written behind the chain",  # The first number after those of the template.
    ),
}  # fmt: skip


class TestVerify:
    async def test_a_sound_log_has_no_findings(self, log: Connection):
        found = await verify(log, key=KEY, head=None)
        assert (found.findings, found.sealed, found.are_hashes_checked) == ([], ENTRIES, True)

    async def test_a_superusers_edit_is_named(self, log: Connection):
        """One database for all edits, put back after each: a copy takes ten times as long as an edit."""
        tables = ("audit_entry", "audit_origin", "audit_seal")
        await spoil(log, *(f"create table kept_{table} as table {table}" for table in tables))
        for edit, (statements, name) in EDITS.items():
            await spoil(log, *statements.split("; "))
            found = await verify(log, key=KEY, head=None)
            assert found.findings, edit
            assert found.findings[0].startswith(name), (edit, found.findings)
            for table in tables:
                await spoil(
                    log,
                    f"delete from {table}",
                    f"insert into {table} overriding system value select * from kept_{table}",
                )
        assert (await verify(log, key=KEY, head=None)).findings == []

    async def test_a_chain_made_anew_under_another_key_is_found(self, log: Connection):
        await spoil(log, "update audit_entry set action = 'nothing' where id = 5", "delete from audit_seal")
        await seal(log, key=b"b" * 32, head_file=None)
        assert (await verify(log, key=KEY, head=None)).findings

    async def test_a_cut_end_shows_by_the_head_outside(self, log: Connection, tmp_path: Path):
        known = (await verify(log, key=KEY, head=None)).head
        await spoil(
            log, "delete from audit_seal where position = 12", "delete from audit_origin where entry_id = 12",
            "delete from audit_entry where id = 12",
        )  # fmt: skip
        assert (await verify(log, key=KEY, head=None)).findings == []
        found = await verify(log, key=KEY, head=known)
        assert found.findings[0].startswith("seals 12 to 12 are gone")

    async def test_a_forgotten_address_is_no_finding(self, log: Connection):
        [(count,)] = await (
            await log.execute("select audit_forget_origins(null, null, clock_timestamp())")
        ).fetchall()
        found = await verify(log, key=KEY, head=None)
        assert (found.findings, found.origins_forgotten, count) == ([], ENTRIES, ENTRIES)

    async def test_without_the_key_it_says_so(self, log: Connection):
        found = await verify(log, key=None, head=None)
        assert (found.findings, found.are_hashes_checked) == ([], False)


ATTACKS = (
    "update audit_entry set action = 'x'",
    "delete from audit_entry",
    "truncate audit_entry cascade",
    "update audit_origin set address = 'x'",
    "delete from audit_origin",
    "truncate audit_origin",
    "update audit_seal set hash = hash",
    "delete from audit_seal",
    "truncate audit_seal",
)


class TestGuards:
    async def test_even_a_superusers_plain_statement_is_refused(self, log: Connection):
        for attack in ATTACKS:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="stays as it is"):
                await log.execute(attack.encode())

    async def test_nothing_is_added_to_the_past(self, log: Connection):
        with pytest.raises(psycopg.errors.CheckViolation, match="past"):
            await log.execute(
                "insert into audit_entry (xact_id, actor_kind, actor_name, action, mentions, outcome, detail)"
                " values (5, 'operator', 'root', 'act', '{}', 'done', '{}')"
            )
