"""The migrations build what the models say, on a real PostgreSQL, in both directions."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from alembic.script import ScriptDirectory
from migrations.schema_of import only_tables, schema_of
from sqlalchemy import create_engine

import raymart_billing.db  # noqa: F401  (its tables join the metadata)
from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db import migrate
from raymart_marketplace.db.metadata import metadata
from raymart_marketplace.db.scripts import REPOSITORY_SCRIPTS, heads
from raymart_marketplace.db.session import sqlalchemy_url


class TestUpgrade:
    def test_up_down_up_gives_the_same_schema(self, empty_database_url: str):
        migrate.upgrade(empty_database_url)
        first = schema_of(empty_database_url)
        assert migrate.current(empty_database_url) == heads()[0]

        migrate.downgrade(empty_database_url, "base")
        assert migrate.current(empty_database_url) is None
        assert not any(schema_of(empty_database_url).values()), "a downgrade left something behind"

        migrate.upgrade(empty_database_url)
        assert schema_of(empty_database_url) == first

    def test_each_step_back_and_forth_gives_the_same_schema(self, empty_database_url: str):
        migrate.upgrade(empty_database_url)
        whole = schema_of(empty_database_url)
        while migrate.current(empty_database_url) is not None:
            revision = migrate.current(empty_database_url)
            before = schema_of(empty_database_url)
            migrate.downgrade(empty_database_url, "-1")
            migrate.upgrade(empty_database_url, str(revision))
            assert schema_of(empty_database_url) == before
            migrate.downgrade(empty_database_url, "-1")
        migrate.upgrade(empty_database_url)
        assert schema_of(empty_database_url) == whole

    def test_repeat_is_a_no_op(self, empty_database_url: str):
        migrate.upgrade(empty_database_url)
        migrate.upgrade(empty_database_url)
        assert migrate.current(empty_database_url) == heads()[0]

    def test_two_runners_at_once_both_succeed(self, empty_database_url: str):
        """Two processes start a new version at the same moment; the advisory lock lets one wait for the other."""
        program = [sys.executable, "-c", _UPGRADE, empty_database_url]

        def run(_: int) -> subprocess.CompletedProcess[str]:
            return subprocess.run(program, capture_output=True, text=True, timeout=90, check=False)

        with ThreadPoolExecutor(2) as threads:
            failures = [done.stderr for done in threads.map(run, range(2)) if done.returncode != 0]
        assert failures == []
        assert migrate.current(empty_database_url) == heads()[0]

    def test_password_with_a_percent_sign_is_not_interpolated(self):
        made = migrate.config("postgresql://raymart:50%25@127.0.0.1/raymart")
        assert made.attributes["url"] == "postgresql://raymart:50%25@127.0.0.1/raymart"

    def test_missing_scripts_folder_names_the_setting(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match="RAYMART_MIGRATIONS_DIR"):
            migrate.upgrade("postgresql://127.0.0.1/none", scripts=tmp_path)


@pytest.fixture
def plain_owner_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """URL of an empty database that a role owns which may log in and make roles, and nothing else: a managed server's."""
    name = f"test_{new_id().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(
            f"create role {name} login createrole nosuperuser nocreatedb nobypassrls password 'plain'"
        )
        connection.execute(f"create database {name} owner {name}")
        server = urlsplit(postgres.url)
        yield f"postgresql://{name}:plain@{server.hostname}:{server.port}/{name}"
        connection.execute(f"drop database {name} with (force)")
        connection.execute(f"drop role {name}")


class TestPlainOwner:
    """Managed servers give nobody a superuser, and with it no `grant set on parameter`."""

    def test_up_down_up(self, plain_owner_url: str):
        migrate.upgrade(plain_owner_url)
        first = schema_of(plain_owner_url)
        migrate.downgrade(plain_owner_url, "base")
        migrate.upgrade(plain_owner_url)
        assert schema_of(plain_owner_url) == first

    def test_it_can_neither_write_leases_by_hand_nor_fail_to_by_their_functions(self, plain_owner_url: str):
        migrate.upgrade(plain_owner_url)
        with psycopg.connect(plain_owner_url, autocommit=True) as connection:
            connection.execute("select gateway_register(gen_random_uuid())")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("insert into gateway (id) values (gen_random_uuid())")

    @pytest.mark.slow
    def test_it_makes_the_runtimes_role_where_there_is_none(self, tmp_path: Path):
        with EmbeddedPostgres(tmp_path / "postgres") as server:
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("alter database raymart owner to raymart")
                for role in ("raymart_app", "raymart_owner", "raymart_runtime", "raymart_tenant"):
                    connection.execute(f"drop role {role}")
                connection.execute("create role plain login createrole password 'plain'")
                connection.execute("alter database raymart owner to plain")
            url = urlsplit(server.url)
            migrate.upgrade(f"postgresql://plain:plain@{url.hostname}:{url.port}/raymart")
            with psycopg.connect(server.url) as connection:
                assert connection.execute(
                    "select rolcanlogin from pg_roles where rolname = 'raymart_runtime'"
                ).fetchall() == [(False,)]


class TestModels:
    def test_check_finds_nothing_to_migrate(self, empty_database_url: str):
        migrate.upgrade(empty_database_url)
        migrate.check(empty_database_url)

    def test_check_finds_a_dropped_column(self, empty_database_url: str):
        """The check sees something at all."""
        migrate.upgrade(empty_database_url)
        with psycopg.connect(empty_database_url) as connection:
            connection.execute('alter table "user" drop column name')
        with pytest.raises(Exception, match=r"New upgrade operations detected"):
            migrate.check(empty_database_url)

    def test_migrated_tables_have_each_constraint_and_index_of_the_models(
        self, empty_database_url: str, request: pytest.FixtureRequest
    ):
        """`check` compares no CHECK constraints and no index conditions; this does."""
        migrate.upgrade(empty_database_url)
        migrated = only_tables(schema_of(empty_database_url))
        migrate.downgrade(empty_database_url, "base")
        engine = create_engine(sqlalchemy_url(empty_database_url))
        metadata.create_all(engine)
        engine.dispose()
        assert migrated == only_tables(schema_of(empty_database_url))


class TestHistory:
    def test_exactly_one_head(self):
        """By Alembic, and by the files' text, which is what a process that serves reads."""
        assert [*heads()] == ScriptDirectory(str(REPOSITORY_SCRIPTS)).get_heads()
        assert len(heads()) == 1

    def test_branches_and_their_merge_are_read(self, tmp_path: Path):
        versions = tmp_path / "versions"
        versions.mkdir()
        follows = {"0001": None, "0002": "0001", "0003": "0001"}
        for revision, before in follows.items():
            _write_migration(versions, revision, before)
        assert heads(scripts=tmp_path) == ("0002", "0003")
        _write_migration(versions, "0004", ("0002", "0003"))
        assert heads(scripts=tmp_path) == ("0004",)

    def test_folder_without_migrations_names_the_setting(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match="RAYMART_MIGRATIONS_DIR"):
            heads(scripts=tmp_path)

    def test_each_migration_is_named_by_its_number(self):
        scripts = sorted(path.name for path in (REPOSITORY_SCRIPTS / "versions").glob("*.py"))
        assert [name[:4] for name in scripts] == [f"{number:04}" for number in range(1, len(scripts) + 1)]

    def test_migrations_run_with_a_short_lock_timeout_in_their_own_transactions(
        self, empty_database_url: str, tmp_path: Path
    ):
        scripts = tmp_path / "alembic"
        shutil.copytree(REPOSITORY_SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__", "0*"))
        (scripts / "versions" / "a.py").write_text(_PROBE)
        (scripts / "versions" / "b.py").write_text(_BROKEN)
        with pytest.raises(Exception, match="division by zero"):
            migrate.upgrade(empty_database_url, scripts=scripts)
        with psycopg.connect(empty_database_url) as connection:
            assert connection.execute("select lock_timeout from probe").fetchall() == [("5s",)]
        assert migrate.current(empty_database_url) == "a"


_UPGRADE = "import sys; from raymart_marketplace.db.migrate import upgrade; upgrade(sys.argv[1])"

_PROBE = """
from alembic import op
revision, down_revision = "a", None
def upgrade():
    op.execute("create table probe as select current_setting('lock_timeout') as lock_timeout")
"""

_BROKEN = """
from alembic import op
revision, down_revision = "b", "a"
def upgrade():
    op.execute("drop table probe")
    op.execute("select 1/0")
"""


def _write_migration(versions: Path, revision: str, before: str | tuple[str, ...] | None) -> None:
    """As `script.py.mako` begins one."""
    (versions / f"{revision}.py").write_text(
        f"revision: str = {revision!r}\ndown_revision: str | Sequence[str] | None = {before!r}\n"
    )
