"""EmbeddedPostgres: real servers, one data directory each."""

import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from raymart_local.errors import DataDirInUse, PartFailed, PortBusy
from raymart_local.ports import free_port
from raymart_local.postgres import EmbeddedPostgres


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose cluster is deleted afterwards, also where root keeps it elsewhere."""
    yield tmp_path / "pg"
    EmbeddedPostgres(tmp_path / "pg").destroy()


def one(url: str, query: str) -> object:
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


class TestEmbeddedPostgres:
    def test_first_start_answers_with_our_settings(self, data_dir: Path):
        with EmbeddedPostgres(data_dir) as server:
            assert one(server.url, "SHOW max_connections") == "200"
            assert one(server.url, "SHOW fsync") == "on"
            how = "syncfs" if sys.platform == "linux" else "fsync"
            assert one(server.url, "SHOW recovery_init_sync_method") == how
            assert one(server.url, "SHOW server_encoding") == "UTF8"
            assert one(server.url, "SHOW listen_addresses") == "127.0.0.1"
            assert one(server.url, "SELECT current_database()") == "raymart"

    def test_second_start_keeps_data_url_and_password(self, data_dir: Path):
        with EmbeddedPostgres(data_dir) as server:
            first_url = server.url
            with psycopg.connect(server.url) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        with EmbeddedPostgres(data_dir) as server:
            assert server.url == first_url
            assert one(server.url, "SELECT value FROM kept") == 42

    def test_start_is_idempotent(self, data_dir: Path):
        with EmbeddedPostgres(data_dir) as server:
            pid = server.pid
            assert server.start() == server.url
            assert server.pid == pid

    def test_committed_row_survives_sigkill_of_the_server(self, data_dir: Path):
        server = EmbeddedPostgres(data_dir)
        with psycopg.connect(server.start()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        with EmbeddedPostgres(data_dir) as again:
            assert one(again.url, "SELECT value FROM kept") == 42

    def test_server_left_by_a_killed_owner_is_stopped_first(self, data_dir: Path):
        owner = EmbeddedPostgres(data_dir)
        owner.start()
        leftover = owner.pid
        assert leftover is not None
        owner._lock.release()  # what the kernel does when the owner is killed
        with EmbeddedPostgres(data_dir) as again:
            assert again.pid != leftover
            assert one(again.url, "SELECT 1") == 1
            owner.stop("immediate")  # reaps the child; psutil would still see the zombie
            assert not psutil.pid_exists(leftover)

    def test_stale_pid_file_with_a_reused_number_is_dropped(self, data_dir: Path):
        with EmbeddedPostgres(data_dir):
            pass
        cluster = EmbeddedPostgres(data_dir)._cluster()
        (cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster}\n")
        with EmbeddedPostgres(data_dir) as server:
            assert one(server.url, "SELECT 1") == 1

    def test_wrong_password_is_refused_by_scram(self, data_dir: Path):
        with EmbeddedPostgres(data_dir) as server:
            wrong = server.url.replace(":" + server.url.split(":")[2].split("@")[0], ":wrong")
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                one(wrong, "SELECT 1")
            methods = one(server.url, "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules")
            assert methods == "scram-sha-256"

    def test_password_file_is_private(self, data_dir: Path):
        with EmbeddedPostgres(data_dir):
            assert stat.S_IMODE((data_dir / "password").stat().st_mode) == 0o600

    def test_second_server_on_the_same_directory_is_refused_naming_the_holder(self, data_dir: Path):
        with EmbeddedPostgres(data_dir), pytest.raises(DataDirInUse, match=f"process {os.getpid()}"):
            EmbeddedPostgres(data_dir).start()

    def test_remembered_port_taken_meanwhile_is_replaced(self, data_dir: Path):
        with EmbeddedPostgres(data_dir) as server:
            port = int(server.url.rsplit(":", 1)[1].split("/")[0])
        import socket

        with socket.create_server(("127.0.0.1", port)), EmbeddedPostgres(data_dir) as server:
            assert f":{port}/" not in server.url
            assert one(server.url, "SELECT 1") == 1

    def test_given_port_taken_is_a_clear_error(self, data_dir: Path):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(PortBusy, match=f"port {port} .*embedded Postgres"):
                EmbeddedPostgres(data_dir, port=port).start()

    def test_server_that_cannot_start_names_its_log(self, data_dir: Path):
        with EmbeddedPostgres(data_dir):
            pass
        broken = EmbeddedPostgres(data_dir)
        (broken._cluster() / "postgresql.conf").write_text("nonsense\n")
        with pytest.raises(PartFailed, match=r"nonsense|FATAL.*postgres\.log"):
            broken.start()

    def test_listens_on_loopback_only(self, data_dir: Path):
        with EmbeddedPostgres(data_dir) as server:
            assert server.pid is not None
            addresses = {
                c.laddr.ip for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"
            }
            assert addresses == {"127.0.0.1"}

    def test_destroy_leaves_nothing(self, data_dir: Path):
        server = EmbeddedPostgres(data_dir, port=free_port())
        server.start()
        cluster = server._cluster()
        server.destroy()
        assert not cluster.exists()
        assert not data_dir.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps clusters outside the data directory")
class TestEmbeddedPostgresAsRoot:
    def test_private_parent_stays_private_and_the_pointer_leads_to_the_cluster(self, tmp_path: Path):
        private = tmp_path / "private"
        private.mkdir(mode=0o700)
        server = EmbeddedPostgres(private / "pg")
        try:
            server.start()
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
            cluster = Path((private / "pg" / "cluster-path").read_text().strip())
            assert (cluster / "PG_VERSION").exists()
            assert not cluster.is_relative_to(private)
        finally:
            server.destroy()

    def test_deleted_data_directory_starts_anew(self, tmp_path: Path):
        import shutil

        private = tmp_path / "private"
        private.mkdir(mode=0o700)
        try:
            with EmbeddedPostgres(private / "pg") as server, psycopg.connect(server.url) as connection:
                connection.execute("CREATE TABLE old AS SELECT 1")
            shutil.rmtree(private / "pg")
            with EmbeddedPostgres(private / "pg") as server:
                assert one(server.url, "SELECT to_regclass('old')") is None
        finally:
            EmbeddedPostgres(private / "pg").destroy()

    def test_server_runs_as_nobody(self, data_dir: Path):
        with EmbeddedPostgres(data_dir) as server:
            assert psutil.Process(server.pid).username() == "nobody"


class TestRoles:
    def test_who_runs_owns_nothing_and_who_migrates_is_no_superuser(self, tmp_path: Path):
        with EmbeddedPostgres(tmp_path) as server:
            for url in (server.owner_url, server.runtime_url):
                assert (
                    one(url, "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
                    is False
                )
            assert one(server.runtime_url, "SELECT pg_has_role('raymart_runtime', 'member')") is True
            assert one(server.runtime_url, "SELECT pg_has_role('raymart_owner', 'member')") is False
            assert one(
                server.owner_url, "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'raymart'"
            ) == ("raymart_owner")

    def test_a_cluster_of_before_keeps_its_rows_and_gets_a_new_owner(self, tmp_path: Path):
        """One superuser owned everything, as up to the first release of the ledger."""
        with EmbeddedPostgres(tmp_path) as server:
            marker = Path(str(one(server.url, "SHOW data_directory"))) / "raymart-roles-3"
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("ALTER DATABASE raymart OWNER TO raymart")
                connection.execute("CREATE SCHEMA months")
                connection.execute(
                    "CREATE TABLE kept (id bigint GENERATED ALWAYS AS IDENTITY, value integer)"
                )
                connection.execute("CREATE TABLE months.part (value integer)")
                connection.execute("INSERT INTO kept (value) VALUES (42)")
                connection.execute("CREATE FUNCTION answer() RETURNS integer LANGUAGE sql AS 'SELECT 42'")
                connection.execute("DROP ROLE raymart_app")
        assert marker.read_text()
        marker.unlink()
        with EmbeddedPostgres(tmp_path) as server:
            owners = (
                "SELECT string_agg(DISTINCT owner::regrole::text, ',') FROM ("
                " SELECT relowner FROM pg_class WHERE relname IN ('kept', 'part', 'kept_id_seq') UNION ALL"
                " SELECT proowner FROM pg_proc WHERE proname = 'answer' UNION ALL"
                " SELECT nspowner FROM pg_namespace WHERE nspname = 'months') found (owner)"
            )
            assert one(server.owner_url, owners) == "raymart_owner"
            assert one(server.owner_url, "SELECT value FROM kept") == 42
            assert one(server.runtime_url, "SELECT current_user::text") == "raymart_app"
