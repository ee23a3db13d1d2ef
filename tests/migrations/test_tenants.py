"""Promise 16, second half: what the database itself keeps from a tenant, whatever a statement says."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest

from raymart_core.ids import new_id

UNPROTECTED = {"alembic_version"}
"""Tables without row-level security: the number of the newest migration, which is nobody's."""
PUBLIC = {
    "price", "price_cap", "fee_schedule", "pool", "provider",
    "offer_ask", "offer_window", "offer_window_ask", "transfer_code", "service_figures", "epoch",
}  # fmt: skip
"""Tables that everybody reads: the market's face, the ledger's static list of codes, and when epochs began and ended."""
CATALOG = {
    "model", "model_revision", "model_alias", "model_alias_change", "model_placement", "endpoint", "rate_card", "offer",
}  # fmt: skip
"""Tables that everybody reads as far as they are of public models."""
TENANT = "select set_config('role', 'raymart_tenant', true), set_config('app.organizations', %s, true), set_config('app.user', %s, true)"
NOBODY = "set local role raymart_tenant"
DEFINERS = {"budget_set", "budget_remove"}
"""Functions with their owner's rights that a tenant may call; each asks `tenant_require`."""


@dataclass(frozen=True, slots=True)
class Books:
    """Two customers and two providers with a row of most kinds each."""

    own: UUID
    other: UUID
    own_user: UUID
    other_user: UUID
    rows: dict[str, tuple[str, str]]
    """Table to (condition of the own row, condition of the other's)."""


@pytest.fixture(scope="module")
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """As the processes connect. Each test is a transaction that is rolled back."""
    # Values are bound on this side: one parameter is a name here and a text there.
    with psycopg.connect(database_url, cursor_factory=psycopg.ClientCursor) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def books(connection: psycopg.Connection) -> Iterator[Books]:
    connection.rollback()
    made = Books(new_id(), new_id(), new_id(), new_id(), {})
    for organization, user in ((made.own, made.own_user), (made.other, made.other_user)):
        fill(connection, organization, user, made.rows)
    yield made
    connection.rollback()


def fill(
    connection: psycopg.Connection, organization: UUID, user: UUID, rows: dict[str, tuple[str, str]]
) -> None:
    """A tenant that both buys and sells, and its rows in each table where a plain insert makes one."""
    of = dict.fromkeys(
        (
            "project",
            "provider",
            "key",
            "request",
            "deposit",
            "alert",
            "pool",
            "node",
            "model",
            "revision",
            "offer",
        )
    )
    of = {name: new_id() for name in of}
    connection.execute(
        "insert into organization (id, slug, name, kind) values (%s, %s, 'O', 'provider')",
        (organization, organization.hex),
    )
    connection.execute(
        "insert into \"user\" (id, email, name, password_hash) values (%s, %s, 'U', 'x')", (user, user.hex)
    )
    statements = {
        "membership": (
            "(id, organization_id, user_id, role) values (gen_random_uuid(), %(o)s, %(u)s, 'owner')",
            f"organization_id = '{organization}'",
        ),
        "project": (
            "(id, organization_id, slug, name) values (%(project)s, %(o)s, 'p', 'P')",
            f"id = '{of['project']}'",
        ),
        "api_key": (
            "(id, project_id, name, prefix, key_hash, created_by) values (%(key)s, %(project)s, 'k', 'rm_live_', sha256(%(bytes)s), %(u)s)",
            f"id = '{of['key']}'",
        ),
        "provider": (
            "(id, organization_id, slug, name, state) values (%(provider)s, %(o)s, %(hex)s, 'P', 'active')",
            f"id = '{of['provider']}'",
        ),
        "pool": (
            "(id, slug, kind, region, provider_id) values (%(pool)s, %(hex)s, 'provider', 'r', %(provider)s)",
            f"id = '{of['pool']}'",
        ),
        "node": (
            (
                "(id, pool_id, provider_id, role, name, public_key, machine_id, hardware, state) values"
                " (%(node)s, %(pool)s, %(provider)s, 'node', 'n', sha256(%(bytes)s), %(hex)s, '{}', 'ready')"
            ),
            f"id = '{of['node']}'",
        ),
        "model": (
            "(id, slug, name, description, modality, licence) values (%(model)s, %(hex)s, 'M', 'd', 'chat', 'l')",
            f"id = '{of['model']}'",
        ),
        "model_revision": (
            (
                "(id, model_id, digest, engine, quantization, source, sha256, context_length, capabilities, state) values"
                " (%(revision)s, %(model)s, 'sha256:' || rpad(%(hex)s, 64, '0'), 'e', 'q', 's', rpad(%(hex)s, 64, '0'), 1, '{}', 'published')"
            ),
            f"id = '{of['revision']}'",
        ),
        "offer": (
            (
                "(id, provider_id, revision_id, ask_prompt_nano_usd, ask_completion_nano_usd, state) values"
                " (%(offer)s, %(provider)s, %(revision)s, 1, 1, 'open')"
            ),
            f"id = '{of['offer']}'",
        ),
        "request": (
            (
                "(id, created_at, organization_id, project_id, surface, model_asked, model_served, state, streamed, duration_ms) values"
                " (%(request)s, now(), %(o)s, %(project)s, 'rest', 'm', 'm', 'completed', false, 1)"
            ),
            f"id = '{of['request']}'",
        ),
        "attempt": (
            (
                "(id, request_id, position, endpoint_id, provider_id, node_id, outcome, fault, reason, tokens_delivered, duration_ms) values"
                " (gen_random_uuid(), %(request)s, 0, gen_random_uuid(), gen_random_uuid(), %(node)s, 'delivered', 'none', '', 1, 1)"
            ),
            f"request_id = '{of['request']}'",
        ),
        "billing_profile": (
            "(organization_id, legal_name, address, country, email, updated_by) values (%(o)s, 'L', 'A', 'AT', 'e@example.com', %(u)s)",
            f"organization_id = '{organization}'",
        ),
        "alert_threshold": (
            "(organization_id, low_balance_nano_usd) values (%(o)s, 1)",
            f"organization_id = '{organization}'",
        ),
        "alert": (
            "(id, organization_id, kind, subject, threshold_nano_usd, value_nano_usd) values (%(alert)s, %(o)s, 'low_balance', 's', 2, 1)",
            f"id = '{of['alert']}'",
        ),
        "deposit": (
            (
                "(id, organization_id, rail, state, amount_nano_usd, idempotency_key, expires_at) values"
                " (%(deposit)s, %(o)s, 'card', 'created', 10000000000, %(hex)s, now() + interval '1 hour')"
            ),
            f"id = '{of['deposit']}'",
        ),
    }
    values = {**of, "o": organization, "u": user, "hex": organization.hex, "bytes": organization.bytes}
    for table, (insert, condition) in statements.items():
        connection.execute(f"insert into {table} {insert}", values)
        first, _ = rows.get(table, ("", ""))
        rows[table] = (first, condition) if first else (condition, "")
    connection.execute("select ledger_open_account('customer_balance', %s, 'usd')", (organization,))
    condition = f"owner_id = '{organization}'"
    first, _ = rows.get("ledger_account", ("", ""))
    rows["ledger_account"] = (first, condition) if first else (condition, "")


def tables(connection: psycopg.Connection) -> dict[str, tuple[bool, bool, bool, bool]]:
    """By name: row security, forced, does a tenant see rows, does a tenant have any right."""
    found = connection.execute(
        "select c.relname, c.relrowsecurity, c.relforcerowsecurity,"
        " exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'tenant_sees'),"
        " has_table_privilege('raymart_tenant', c.oid, 'select, insert, update, delete, truncate, references, trigger')"
        " from pg_class c where c.relkind in ('r', 'p', 'm', 'f') and c.relnamespace = 'public'::regnamespace"
        " and c.relname <> 'test_effect'"
    )
    return {name: (secured, forced, policy, right) for name, secured, forced, policy, right in found}


class TestCatalog:
    """A new table, view or function must be put on one side or the other: `tenant_isolate` does it."""

    def test_every_table_is_under_forced_row_level_security(self, connection: psycopg.Connection) -> None:
        bare = {
            name for name, (secured, forced, _, _) in tables(connection).items() if not (secured and forced)
        }
        assert bare == UNPROTECTED, "call tenant_isolate in the migration that makes it"

    def test_a_tenant_has_rights_only_where_a_policy_chooses_rows(
        self, connection: psycopg.Connection
    ) -> None:
        assert {
            name for name, (_, _, policy, right) in tables(connection).items() if right and not policy
        } == set()

    def test_policies_that_let_everybody_read_are_those_of_the_markets_face(
        self, connection: psycopg.Connection
    ) -> None:
        found = connection.execute(
            "select c.relname from pg_policy p join pg_class c on c.oid = p.polrelid"
            " where 'raymart_tenant'::regrole = any (p.polroles) and (pg_get_expr(p.polqual, p.polrelid) = 'true'"
            " or pg_get_expr(p.polwithcheck, p.polrelid) = 'true') and p.polcmd = 'r'"
        ).fetchall()
        assert {name for (name,) in found} == PUBLIC

    def test_no_policy_is_for_everybody_and_every_write_is_checked(
        self, connection: psycopg.Connection
    ) -> None:
        loose = connection.execute(
            "select polrelid::regclass, polname from pg_policy where 0 = any (polroles)"
            " or ('raymart_tenant'::regrole = any (polroles) and polcmd in ('a', 'w', '*')"
            "     and coalesce(pg_get_expr(polwithcheck, polrelid), 'true') = 'true')"
        ).fetchall()
        assert loose == []

    def test_months_of_usage_are_closed_by_themselves(self, connection: psycopg.Connection) -> None:
        open_ones = connection.execute(
            "select c.oid::regclass::text from pg_class c where c.relnamespace = 'usage_month'::regnamespace and c.relkind = 'r'"
            " and (not (c.relrowsecurity and c.relforcerowsecurity) or has_table_privilege('raymart_tenant', c.oid, 'select'))"
        ).fetchall()
        assert open_ones == []

    def test_a_new_month_is_closed_too(self, owner_url: str) -> None:
        with psycopg.connect(owner_url) as owner:
            owner.execute("select ensure_usage_partitions('2031-01-01', 1)")
            found = owner.execute(
                "select relrowsecurity, relforcerowsecurity from pg_class where relname = 'usage_record_203101'"
            ).fetchall()
            owner.rollback()
        assert found == [(True, True)]

    def test_views_look_with_their_callers_rights(self, connection: psycopg.Connection) -> None:
        loose = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')"
            " and not coalesce('security_invoker=true' = any (reloptions) or 'security_invoker=on' = any (reloptions), false)"
        ).fetchall()
        assert loose == []

    def test_functions_with_their_owners_rights_that_a_tenant_may_call_are_known(
        self, connection: psycopg.Connection
    ) -> None:
        found = connection.execute(
            "select proname, prosrc ~ 'tenant_require' from pg_proc where pronamespace = 'public'::regnamespace and prosecdef"
            " and has_function_privilege('raymart_tenant', oid, 'execute')"
        ).fetchall()
        assert dict(found) == dict.fromkeys(DEFINERS, True)

    def test_the_role_is_nobody_by_itself(self, connection: psycopg.Connection) -> None:
        found = connection.execute(
            "select rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, pg_has_role('raymart_tenant', 'raymart_runtime', 'member')"
            " from pg_roles where rolname = 'raymart_tenant'"
        ).fetchall()
        assert found == [(False,) * 5]


class TestRows:
    def test_without_a_tenant_there_are_no_rows(self, connection: psycopg.Connection, books: Books) -> None:
        connection.execute(NOBODY)
        for table, (_, _, _, is_readable) in tables(connection).items():
            if is_readable and table not in PUBLIC | CATALOG:
                assert count(connection, f'"{table}"') == 0, table

    def test_a_tenant_sees_its_own_rows_and_no_others(
        self, connection: psycopg.Connection, books: Books
    ) -> None:
        act_for(connection, books.own, books.own_user)
        for table, (own, other) in books.rows.items():
            assert count(connection, table, own) == 1, table
            assert count(connection, table, other) == (1 if table in PUBLIC | CATALOG else 0), table
        seen = connection.execute('select id from "user"').fetchall()
        assert seen == [(books.own_user,)]

    def test_what_is_another_tenants_is_neither_changed_nor_removed(
        self, connection: psycopg.Connection, books: Books
    ) -> None:
        act_for(connection, books.own, books.own_user)
        for table, (_, other) in books.rows.items():
            column = connection.execute(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum = 2", (table,)
            ).fetchone()
            assert column
            for statement in (
                f"update {table} set {column[0]} = {column[0]} where {other}",
                f"delete from {table} where {other}",
            ):
                # Where a tenant may write at all, there is nothing to write to.
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                    assert touched(connection, statement) == 0, statement

    def test_nothing_is_added_to_another_tenant(self, connection: psycopg.Connection, books: Books) -> None:
        act_for(connection, books.own, books.own_user)
        tries = (
            f"insert into project (id, organization_id, slug, name) values (gen_random_uuid(), '{books.other}', 'x', 'x')",
            f"insert into membership (id, organization_id, user_id, role) values (gen_random_uuid(), '{books.other}', '{books.own_user}', 'owner')",
            f"insert into alert_threshold (organization_id, low_balance_nano_usd) values ('{books.other}', 1) on conflict (organization_id) do update set low_balance_nano_usd = 5",
            f"update project set organization_id = '{books.other}' where {books.rows['project'][0]}",
            f"insert into pool (id, slug, kind, region, provider_id) select gen_random_uuid(), 'x', 'provider', 'r', id from provider where organization_id = '{books.other}'",
            "insert into pool (id, slug, kind, region) values (gen_random_uuid(), 'x', 'house', 'r')",
            f"update pool set region = 'x' where {books.rows['pool'][0]}",
            f"update offer set provider_id = (select id from provider where organization_id = '{books.other}') where {books.rows['offer'][0]}",
        )
        for statement in tries:
            assert_refused(connection, statement)

    def test_functions_with_their_owners_rights_refuse_another_tenant(
        self, connection: psycopg.Connection, books: Books
    ) -> None:
        act_for(connection, books.own, books.own_user)
        call = "select budget_set(gen_random_uuid(), '{0}', 'organization', '{0}', 'monthly', 5, null)"
        assert touched(connection, call.format(books.own)) == 1
        assert_refused(connection, call.format(books.other))
        assert_refused(connection, f"select budget_remove(gen_random_uuid(), '{books.other}')")

    def test_money_moves_by_no_call_of_a_tenant(self, connection: psycopg.Connection, books: Books) -> None:
        act_for(connection, books.own, books.own_user)
        for call in ("ledger_expire_holds(1)", "lease_expire(1, '1s', '1s')", "ledger_take_snapshot()"):
            assert_refused(connection, f"select {call}")

    def test_the_owner_is_under_it_and_has_a_policy_of_its_own(self, connection: psycopg.Connection) -> None:
        found = connection.execute(
            "select count(*) from pg_class c where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace"
            " and c.relforcerowsecurity and not exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'owner'"
            " and c.relowner = any (p.polroles))"
        ).fetchall()
        assert found == [(0,)]


class TestTransaction:
    def test_the_tenant_ends_with_it(self, database_url: str) -> None:
        """A pooled connection comes back as it was."""
        with psycopg.connect(database_url) as connection:
            for end in (connection.commit, connection.rollback):
                connection.execute(TENANT, (f"{{{new_id()}}}", str(new_id())))
                end()
                found = connection.execute(
                    "select current_user, current_setting('role'), coalesce(current_setting('app.organizations', true), ''),"
                    " coalesce(current_setting('app.user', true), '')"
                ).fetchone()
                assert found == ("raymart_app", "none", "", "")
                connection.rollback()

    def test_it_ends_when_a_statement_fails(self, database_url: str) -> None:
        with psycopg.connect(database_url) as connection:
            connection.execute(TENANT, (f"{{{new_id()}}}", ""))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select * from outbox_of_nobody") if False else connection.execute(
                    "select * from stripe_event"
                )
            connection.rollback()
            assert connection.execute("select current_user").fetchone() == ("raymart_app",)


def act_for(connection: psycopg.Connection, organization: UUID, user: UUID) -> None:
    connection.execute(TENANT, (f"{{{organization}}}", str(user)))


def count(connection: psycopg.Connection, table: str, condition: str = "true") -> int:
    found = connection.execute(f"select count(*) from {table} where {condition}").fetchone()
    assert found
    return int(found[0])


def touched(connection: psycopg.Connection, statement: str) -> int:
    """How many rows a statement touched; undone in any case. Raises: psycopg.errors.InsufficientPrivilege."""
    connection.execute("savepoint before")
    try:
        return connection.execute(statement).rowcount
    finally:
        connection.execute("rollback to savepoint before")


def assert_refused(connection: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        touched(connection, statement)


class TestPlans:
    def test_page_of_one_tenant_reads_the_index_and_sorts_nothing(self, owner_url: str) -> None:
        with psycopg.connect(owner_url) as connection:
            # References and amounts are not what this is about.
            connection.execute("set local session_replication_role = replica")
            connection.execute(
                "create temporary table one as select gen_random_uuid() as id from generate_series(1, 100)"
            )
            connection.execute(
                "insert into usage_record (id, organization_id, project_id, provider_id, endpoint_id, offer_id, revision_id,"
                " tokens_prompt, tokens_completion, price_prompt_nano_usd, price_completion_nano_usd, customer_nano_usd,"
                " provider_nano_usd, fee_nano_usd, exact)"
                " select uuidv7(), (array(select id from one))[1 + number % 100], gen_random_uuid(), gen_random_uuid(),"
                " gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 0, 0, 0, 0, 0, 0, 0, true"
                " from generate_series(1, 40000) number"
            )
            connection.execute("analyze usage_record")
            row = connection.execute("select id from one limit 1").fetchone()
            assert row is not None
            connection.execute(TENANT, [f"{{{row[0]}}}", ""])
            plan = connection.execute(
                "explain select * from usage_record where organization_id = %s order by id desc limit 51",
                [row[0]],
            ).fetchall()
            connection.rollback()
        shown = "\n".join(line for (line,) in plan)
        assert "->  Sort" not in shown, shown
        assert "Index Scan Backward" in shown, shown
