"""`raymart ledger`."""

import json

import psycopg

from support.command_line import run, run_process
from support.sealed_books import SEAL_KEY

KEY = {"RAYMART_LEDGER_SEAL_KEY": SEAL_KEY.decode()}


def spoil(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(statement)


class TestVerify:
    def test_an_edited_row_is_named_and_the_status_is_1(self, sound_url, tmp_path):
        head_file = tmp_path / "head.json"
        variables = {**KEY, "RAYMART_LEDGER_HEAD_FILE": str(head_file)}
        sealed = run_process(sound_url, "ledger", "seal", **variables)
        assert sealed.returncode == 0, sealed
        sound = run_process(sound_url, "ledger", "verify", **variables)
        assert sound.returncode == 0, sound
        assert "the books are sound" in sound.stderr

        with psycopg.connect(sound_url, autocommit=True) as connection:
            [(transfer_id,)] = connection.execute(
                "select min(id) from transfer where code = 'usage_earning'"
            ).fetchall()
        spoil(sound_url, f"update transfer set amount = amount + 7 where id = {transfer_id}")
        found = run(sound_url, "ledger", "verify", "-o", "json", **variables)
        assert found.returncode == 1
        assert found.stderr.splitlines()[-1].startswith(
            f"raymart: the books are not sound; first bad row: transfer {transfer_id} (sealed at position"
        )
        assert {row["check"] for row in json.loads(found.stdout)} == {"chain", "balances", "snapshots"}

        checks = json.loads(run(sound_url, "ledger", "checks", "-o", "json").stdout)
        [verified] = [check for check in checks if check["kind"] == "verify"]
        assert f"transfer {transfer_id} " in verified["first"]
        assert run(sound_url, "ledger", "trial-balance", "-o", "json").returncode == 1


class TestStatementAndReversal:
    def test_a_grant_is_reversed_and_the_statement_shows_both(self, sound_url):
        accounts = json.loads(
            run(sound_url, "ledger", "accounts", "--kind", "customer_balance", "-o", "json").stdout
        )
        account_id = str(accounts[0]["id"])
        with psycopg.connect(sound_url, autocommit=True) as connection:
            [(grant,)] = connection.execute(
                "select ledger_post_batch(array['test:grant'], array[(select id from ledger_account where kind ="
                " 'promotional_credit')], array[%s::bigint], array[5::bigint], array['credit_grant'])",
                (account_id,),
            ).fetchall()
            [(grant,)] = connection.execute("select max(id) from transfer").fetchall()
        done = run(sound_url, "ledger", "reverse", str(grant), "--reason", "typing mistake")
        assert done.returncode == 0, done
        again = run(sound_url, "ledger", "reverse", str(grant), "--reason", "something else")
        assert again.returncode == 1
        assert "reversed before" in again.stderr
        lines = json.loads(
            run(sound_url, "ledger", "statement", account_id, "--limit", "2", "-o", "json").stdout
        )
        assert [line["code"] for line in lines] == ["reversal", "credit_grant"]
        assert lines[0]["change"] == "-0.000000005 USD"
