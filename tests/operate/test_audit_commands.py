"""`raymart audit`, and what commands leave in the log."""

import csv
import io
import json
import os
import pwd
from typing import Any

import psycopg

from raymart_core.ids import Prefix, new_id, show
from support.command_line import failed, run, run_process

KEY = {"RAYMART_LEDGER_SEAL_KEY": "k" * 32}


def listed(url: str, *arguments: str) -> list[dict[str, Any]]:
    done = run(url, "audit", "list", "-o", "json", *arguments)
    assert done.returncode == 0, done
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


class TestOperator:
    def test_a_command_that_changes_something_is_an_act_of_the_systems_user(self, migrated_database_url):
        done = run(
            migrated_database_url,
            "admin",
            "create",
            "--email",
            "ada@example.com",
            stdin="a long enough password\n",
        )
        assert done.returncode == 0, done
        [entry] = listed(migrated_database_url)
        assert (entry["action"], entry["actor_kind"]) == ("raymart admin create", "operator")
        assert str(entry["actor"]).endswith(pwd.getpwuid(os.getuid()).pw_name)
        assert str(entry["subject"]).startswith("org_"), (
            "the platform, made for its first administrator, comes first"
        )
        text = json.dumps(entry)
        assert "ada@example.com" not in text
        assert "long enough" not in text

    def test_a_command_that_reads_leaves_nothing(self, migrated_database_url):
        for command in (("budget", "leases"), ("ledger", "accounts"), ("audit", "list"), ("audit", "export")):
            assert run(migrated_database_url, *command).returncode == 0
        assert listed(migrated_database_url) == []

    def test_a_migration_is_written_down_with_where_it_came_from(self, migrated_database_url):
        newest = run(migrated_database_url, "db", "current").stdout.strip()
        for command in (("downgrade", "--yes", "--", "-1"), ("upgrade",), ("upgrade",)):
            done = run(migrated_database_url, "db", *command)
            assert done.returncode == 0, done
        # The last one found nothing to do.
        entry = listed(migrated_database_url)[0]
        assert (entry["action"], entry["actor_kind"]) == ("raymart db upgrade", "operator")
        assert entry["detail"]["input"] == {"from": f"{int(newest) - 1:04}", "to": newest}


class TestVerify:
    def test_a_row_that_the_databases_owner_edited_is_named(self, migrated_database_url, tmp_path):
        """Promise 19."""
        variables = {**KEY, "RAYMART_LEDGER_HEAD_FILE": str(tmp_path / "ledger-head.json")}
        for number in range(3):
            run(
                migrated_database_url,
                "admin",
                "create",
                "--email",
                f"a{number}@example.com",
                stdin="a long enough one\n",
            )
        sealed = run_process(migrated_database_url, "audit", "seal", **variables)
        assert sealed.returncode == 0, sealed
        assert (tmp_path / "audit-head.json").exists()
        sound = run(migrated_database_url, "audit", "verify", "-o", "json", **variables)
        assert (sound.returncode, json.loads(sound.stdout)) == (0, [])
        assert "the audit log is sound" in sound.stderr

        with psycopg.connect(migrated_database_url, autocommit=True) as owner:
            [(entry_id,)] = owner.execute(
                "select id from audit_entry order by id offset 1 limit 1"
            ).fetchall()
            for statement in (
                "alter table audit_entry disable trigger refuse_change",
                f"update audit_entry set actor_name = 'somebody else' where id = {entry_id}",
                "alter table audit_entry enable trigger refuse_change",
            ):
                owner.execute(statement)
        found = run(migrated_database_url, "audit", "verify", "-o", "json", **variables)
        assert found.returncode == 1
        assert f"first bad row: entry {entry_id} (sealed at position 2)" in found.stderr.splitlines()[-1]
        assert json.loads(found.stdout)[0]["finding"].startswith(f"entry {entry_id} ")


class TestExport:
    def test_both_formats_hold_every_entry_and_no_formula(self, migrated_database_url, tmp_path):
        organization_id = new_id()
        with psycopg.connect(migrated_database_url, autocommit=True) as connection:
            for number in range(2_500):
                connection.execute(
                    "select audit_append(false, 'user', gen_random_uuid(), null, null, %s, null, null, 'act', null, null,"
                    " '{}', 'done', '{}', '192.0.2.1', '=1+1')",
                    (organization_id if number else None,),
                )
        file = tmp_path / "audit.csv"
        done = run(migrated_database_url, "audit", "export", "--format", "csv", "--file", str(file))
        assert done.returncode == 0, done
        rows = list(csv.DictReader(io.StringIO(file.read_text())))
        assert [int(row["sequence"]) for row in rows] == list(range(1, 2_501))
        assert rows[0]["user_agent"] == "'=1+1"
        assert file.stat().st_mode & 0o777 == 0o600
        lines = run(
            migrated_database_url,
            "audit",
            "export",
            "--organization",
            show(Prefix.ORGANIZATION, organization_id),
        )
        assert "there is no organization" in failed(lines)
        whole = run(migrated_database_url, "audit", "export", "--from", "2020-01-01")
        assert [json.loads(line)["sequence"] for line in whole.stdout.splitlines()] == list(range(1, 2_501))
        assert json.loads(whole.stdout.splitlines()[0])["user_agent"] == "=1+1"
        assert run(migrated_database_url, "audit", "export", "--to", "2020-01-01").stdout == ""

    def test_a_subject_that_is_no_id_is_refused(self, migrated_database_url):
        assert "is no id" in failed(run(migrated_database_url, "audit", "list", "--subject", "x"))
