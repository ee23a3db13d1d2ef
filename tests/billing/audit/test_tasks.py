"""What the worker does for the audit log."""

from pathlib import Path

import psycopg
import pytest

from raymart_billing.audit.seal import AuditBroken
from raymart_billing.audit.tasks import forget_addresses, seal_entries
from raymart_billing.seals.head import read_head_file
from raymart_billing.work.process import open_resources
from support.background import a_context, control_settings
from support.empty_database import migrated_database_url

__all__ = ["migrated_database_url"]

KEY = "a" * 32
APPEND = (
    "select audit_append(false, 'operator', null, 'root', null, null, null, null, 'act', null, null, '{}', 'done', '{}',"
    " '192.0.2.1', null)"
)


class TestSealing:
    async def test_the_worker_seals_and_keeps_the_head_beside_the_ledgers(
        self, migrated_database_url: str, tmp_path: Path
    ):
        settings = control_settings(
            migrated_database_url, ledger_seal_key=KEY, ledger_head_file=tmp_path / "ledger-head.json"
        )
        with psycopg.connect(migrated_database_url, autocommit=True) as database:
            database.execute(APPEND)
            async with open_resources(settings) as resources:
                await seal_entries(a_context(resources))
                head = read_head_file(tmp_path / "audit-head.json")
                assert head is not None
                assert head.position == 1
                # A chain that was cut is an alarm of the work queue, and nothing more is sealed.
                database.execute("set session_replication_role = replica")
                database.execute("delete from audit_seal")
                with pytest.raises(AuditBroken, match="seals 1 to 1 are gone"):
                    await seal_entries(a_context(resources))

    async def test_without_a_key_nothing_is_sealed(self, migrated_database_url: str):
        with psycopg.connect(migrated_database_url, autocommit=True) as database:
            database.execute(APPEND)
            async with open_resources(control_settings(migrated_database_url)) as resources:
                await seal_entries(a_context(resources))
            assert database.execute("select count(*) from audit_seal").fetchall() == [(0,)]


class TestForgetting:
    async def test_only_old_addresses_are_forgotten(self, migrated_database_url: str):
        with psycopg.connect(migrated_database_url, autocommit=True) as database:
            for _ in range(2):
                database.execute(APPEND)
            database.execute("set session_replication_role = replica")
            database.execute(
                "update audit_entry set created_at = created_at - interval '366 days' where id = 1"
            )
            async with open_resources(control_settings(migrated_database_url)) as resources:
                await forget_addresses(a_context(resources))
            assert database.execute("select entry_id from audit_origin").fetchall() == [(2,)]
            assert database.execute("select count(*) from audit_entry").fetchall() == [(2,)]
