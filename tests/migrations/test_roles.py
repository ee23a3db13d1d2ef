"""What the runtime's role may not do, what the owner's may not, and that nothing new is granted by accident."""

import psycopg
import pytest

from raymart_billing.ledger.verify import Check, verify
from raymart_core.ids import new_id
from support.sealed_books import SEAL_KEY, sound, sound_url

__all__ = ["sound", "sound_url"]

GRANT = (
    "insert into transfer (key, debit_account_id, credit_account_id, amount, code, state)"
    " values ('by hand', 3, 4, 1, 'credit_grant', 'posted')"
)
AS_RUNTIME = {
    # Nothing of the past changes, and nothing is written but by functions.
    "update_transfer": "update transfer set amount = 1",
    "delete_transfer": "delete from transfer",
    "truncate_transfer": "truncate transfer",
    "insert_transfer": GRANT,
    "append_late": GRANT.replace("state)", "state, xact_id)").replace("'posted')", "'posted', 3)"),
    "update_balance": "update ledger_account set credits_posted = 10",
    "open_account": "insert into ledger_account (kind, asset, may_overdraw) values ('platform_loss', 'usd', true)",
    "hide_hold": "delete from open_hold",
    "change_rule": "update transfer_code set one_owner = false",
    "invent_snapshot": "insert into ledger_snapshot (day, horizon) values ('2020-01-01', '3:3:')",
    "change_snapshot": "update account_snapshot set credits_posted = 1",
    "invent_seal": "insert into transfer_seal values (1, 1, sha256('x'))",
    "delete_seal": "delete from transfer_seal",
    "delete_check": "delete from ledger_check",
    "update_lease": "set search_path = public, lease_writer, pg_temp; update credit_lease set held = 0",
    "update_budget": "set search_path = public, lease_writer, pg_temp; update budget_period set spent = 0",
    "lift_block": "set search_path = public, lease_writer, pg_temp; delete from billing_block",
    "rewrite_usage": "update usage_record set customer_nano_usd = 0, provider_nano_usd = 0, fee_nano_usd = 0",
    "delete_usage": "delete from usage_record",
    "delete_request": "delete from request",
    "rewrite_rollup": "update usage_day set requests = 0",
    "invent_entry": (
        "insert into audit_entry (actor_kind, actor_name, action, mentions, outcome, detail)"
        " values ('operator', 'root', 'act', '{}', 'done', '{}')"
    ),
    "update_entry": "update audit_entry set action = 'x'",
    "delete_entry": "delete from audit_entry",
    "truncate_entries": "truncate audit_entry cascade",
    "change_address": "update audit_origin set address = 'x'",
    "delete_address": "set raymart.audit_forgets = 'yes'; delete from audit_origin",
    "delete_audit_seal": "delete from audit_seal",
    # The guards stay on.
    "disable_trigger": "alter table transfer disable trigger refuse_change",
    "drop_trigger": "drop trigger refuse_change on transfer",
    "drop_constraint": "alter table ledger_account drop constraint ck_ledger_account_no_overdraft",
    "session_replication_role": "set session_replication_role = replica",
    "replace_function": (
        "create or replace function ledger_refuse() returns trigger language plpgsql as 'begin return null; end'"
    ),
    "own_function": "create function free_money() returns void language sql as 'select 1'",
    "own_table": "create table shadow (id bigint)",
    "take_the_owners_role": "set role raymart_owner",
    "grant_itself": "grant update on transfer to raymart_app; update transfer set amount = 1",
    "new_superuser": "create role intruder superuser",
    "lock_out": "begin; lock table transfer in access exclusive mode",
    "pretend_migration": "update alembic_version set version_num = '0001'",
    # Internal functions.
    "resize_a_lease": "select lease_resize(gen_random_uuid(), 5, 'hold_released')",
    "roll_up": "select usage_roll_up(array[]::uuid[])",
    "archive_usage": "select detach_usage_month('2020-01-01')",
}
AS_OWNER = {
    "update_transfer": "update transfer set amount = amount + 1",
    "delete_transfer": "delete from transfer",
    "truncate_transfer": "truncate transfer",
    "append_late": "late",
    "update_balance": "update ledger_account set credits_posted = credits_posted + 1",
    "hide_hold": "delete from open_hold",
    "change_rule": "update transfer_code set one_owner = false",
    "change_snapshot": "update account_snapshot set credits_posted = 1",
    "delete_snapshot": "delete from ledger_snapshot",
    "delete_seal": "delete from transfer_seal",
    "truncate_seals": "truncate transfer_seal",
    "delete_check": "delete from ledger_check",
    "update_lease": "update credit_lease set held = 0",
    "update_entry": "update audit_entry set action = 'x'",
    "delete_entry": "delete from audit_entry",
    "truncate_entries": "truncate audit_entry cascade",
    "change_address": "update audit_origin set address = 'x'",
    "delete_address": "delete from audit_origin",
    "delete_audit_seal": "delete from audit_seal",
    "session_replication_role": "set session_replication_role = replica",
    "new_superuser": "create role intruder superuser",
    "become_superuser": "alter role raymart_owner superuser",
}
BY_FUNCTION_ONLY = {
    "ledger_account", "transfer", "open_hold", "transfer_code", "ledger_snapshot", "account_snapshot", "transfer_seal",
    "gateway", "credit_lease", "lease_budget", "budget", "budget_period", "billing_block", "usage_hour", "usage_day", "usage_day_part",
    "alembic_version", "audit_entry", "audit_origin", "audit_seal",
}  # fmt: skip
KEPT = {
    "request", "attempt", "usage_record", "ledger_check", "payout_policy", "self_billing_invoice", "model_alias_change",
}  # fmt: skip
"""Tables that the runtime adds to and does not change."""
INTERNAL = {
    "budget_set_for_any", "budget_remove_for_any", "lease_resize", "lease_lock_organization", "lease_elsewhere", "usage_day_sums", "usage_day_part_sums", "usage_hour_sums", "usage_roll_up", "detach_usage_month",
}  # fmt: skip
"""Functions with their owner's rights that only other functions, or the owner, call."""


def connect(url):
    return psycopg.connect(url, autocommit=True)


def refused(url, attack):
    """Run `attack`; the refusal."""
    with connect(url) as connection, pytest.raises(psycopg.Error) as refusal:
        connection.execute(attack)
    return refusal.value


class TestRuntime:
    @pytest.mark.parametrize("name", AS_RUNTIME)
    def test_the_attack_is_refused_for_lack_of_rights(self, database_url, name):
        refusal = refused(database_url, AS_RUNTIME[name])
        assert isinstance(refusal, psycopg.errors.InsufficientPrivilege), refusal
        # By the role, not by a trigger that an owner could switch off.
        assert "is refused" not in str(refusal)

    def test_a_temporary_table_does_not_stand_in_for_the_ledgers(self, database_url):
        with connect(database_url) as connection:
            connection.execute("create temporary table transfer (like public.transfer including all)")
            connection.execute("create temporary table ledger_account (like public.ledger_account)")
            connection.execute("set search_path = pg_temp, public")
            owner = new_id()
            [(account_id,)] = connection.execute(
                "select ledger_open_account('customer_balance', %s, 'usd')", (owner,)
            ).fetchall()
            connection.execute(
                "select ledger_post_batch(array[%s], array[(select id from public.ledger_account where kind ="
                " 'promotional_credit')], array[%s::bigint], array[5::bigint], array['credit_grant'])",
                (f"test:{owner}", account_id),
            )
            found = connection.execute(
                "select (select count(*) from pg_temp.transfer), (select count(*) from pg_temp.ledger_account),"
                " (select credits_posted from public.ledger_account where id = %s)",
                (account_id,),
            ).fetchone()
        assert found == (0, 0, 5)

    def test_it_is_neither_owner_nor_superuser(self, database_url):
        with connect(database_url) as connection:
            [(is_superuser, may_be_owner)] = connection.execute(
                "select rolsuper or rolcreaterole or rolcreatedb,"
                " pg_has_role(current_user, (select relowner from pg_class where oid = 'transfer'::regclass), 'member')"
                " from pg_roles where rolname = current_user"
            ).fetchall()
        assert (is_superuser, may_be_owner) == (False, False)


class TestOwner:
    @pytest.mark.parametrize("name", AS_OWNER)
    def test_the_attack_is_refused(self, postgres, database_url, name):
        attack = AS_OWNER[name]
        if attack == "late":
            with connect(database_url) as connection:
                [(account_id,)] = connection.execute(
                    "select ledger_open_account('customer_balance', %s, 'usd')", (new_id(),)
                ).fetchall()
            attack = (
                "insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, xact_id) select"
                f" gen_random_uuid()::text, id, {account_id}, 1, 'credit_grant', 'posted', 3 from ledger_account"
                " where kind = 'promotional_credit'"
            )
            assert "past" in str(refused(postgres.owner_url, attack))
            return
        assert isinstance(refused(postgres.owner_url, attack), psycopg.errors.InsufficientPrivilege)

    async def test_what_an_owner_can_do_all_the_same_is_named_by_verify(self, sound):
        """PostgreSQL lets an owner switch off its own triggers; the seals are beyond it."""
        for statement in (
            "alter table transfer disable trigger refuse_change",
            "update transfer set created_at = created_at - interval '1 day' where id = 5",
            "alter table transfer enable trigger refuse_change",
        ):
            await sound.execute(statement)
        found = await verify(sound, key=SEAL_KEY, head=None)
        assert [finding.check for finding in found.findings] == [Check.CHAIN]
        assert found.findings[0].text.startswith("transfer 5 ")


class TestGrants:
    """A new table or function must be put on one side or the other."""

    def test_tables_that_only_functions_write(self, owner_url):
        with connect(owner_url) as connection:
            rows = connection.execute(
                "select relname, has_table_privilege('raymart_runtime', oid, 'select'),"
                " has_table_privilege('raymart_runtime', oid, 'insert'),"
                " has_table_privilege('raymart_runtime', oid, 'update, delete, truncate, trigger')"
                " from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
                # What the tests of background work write their effects into.
                " and relname <> 'test_effect'"
            ).fetchall()
        assert {name for name, reads, *_ in rows if not reads} == set()
        assert {name for name, _, inserts, _ in rows if not inserts} == BY_FUNCTION_ONLY
        assert {name for name, _, _, changes in rows if not changes} == BY_FUNCTION_ONLY | KEPT

    def test_functions_with_their_owners_rights(self, owner_url):
        with connect(owner_url) as connection:
            rows = connection.execute(
                "select distinct proname, prosecdef, has_function_privilege('raymart_runtime', oid, 'execute'),"
                " has_function_privilege('public', oid, 'execute') from pg_proc"
                " where pronamespace = 'public'::regnamespace and prokind = 'f' and prorettype <> 'trigger'::regtype"
            ).fetchall()
        assert {name for name, is_definer, is_granted, _ in rows if is_definer and not is_granted} == INTERNAL
        assert {name for name, is_definer, _, is_public in rows if is_definer and is_public} == set()

    def test_a_function_with_its_owners_rights_pins_its_search_path(self, owner_url):
        """Else a caller's own table or operator would be found first, with the owner's rights."""
        with connect(owner_url) as connection:
            loose = connection.execute(
                "select proname from pg_proc where pronamespace = 'public'::regnamespace and prosecdef"
                " and not coalesce(array_to_string(proconfig, ';') ~ 'search_path=public, (lease_writer, )?pg_temp', false)"
            ).fetchall()
            # The mark of who writes leases: were there such a schema, what it holds would be found in the owner's name.
            [(schemas,)] = connection.execute(
                "select count(*) from pg_namespace where nspname = 'lease_writer'"
            ).fetchall()
        assert (loose, schemas) == ([], 0)
