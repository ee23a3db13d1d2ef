"""EmbeddedRedis: real servers, one data directory each."""

import os
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest
import redis

from raymart_local.errors import DataDirInUse, PortBusy
from raymart_local.redis import EmbeddedRedis


class TestEmbeddedRedis:
    def test_start_answers_with_our_settings(self, tmp_path: Path):
        with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
            assert client.ping()
            wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
            for name, value in wanted.items():
                assert value in str(client.config_get(name))

    def test_client_without_password_is_refused(self, tmp_path: Path):
        with EmbeddedRedis(tmp_path) as server:
            port = int(server.url.rsplit(":", 1)[1].split("/")[0])
            with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
                client.ping()

    def test_values_survive_a_restart_and_sigkill(self, tmp_path: Path):
        with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
            client.set("kept", "1")
            url = server.url
        again = EmbeddedRedis(tmp_path)
        assert again.start() == url
        assert again.pid is not None
        os.kill(again.pid, signal.SIGKILL)
        again.stop()
        with EmbeddedRedis(tmp_path) as third, redis.Redis.from_url(third.url) as client:
            assert client.get("kept") in {b"1", "1"}

    def test_server_left_by_a_killed_owner_is_stopped_first(self, tmp_path: Path):
        owner = EmbeddedRedis(tmp_path)
        owner.start()
        leftover = owner.pid
        owner._lock.release()  # what the kernel does when the owner is killed
        with EmbeddedRedis(tmp_path) as again:
            assert again.pid != leftover
            owner.stop()
            assert not psutil.pid_exists(leftover)
            assert again.is_answering()

    def test_password_is_in_no_argument_and_files_are_private(self, tmp_path: Path):
        with EmbeddedRedis(tmp_path) as server:
            password = (tmp_path / "password").read_text().strip()
            assert password not in " ".join(psutil.Process(server.pid).cmdline())
            for name in ("password", "redis.conf"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600

    def test_listens_on_loopback_only(self, tmp_path: Path):
        with EmbeddedRedis(tmp_path) as server:
            sockets = psutil.Process(server.pid).net_connections()
            assert {s.laddr.ip for s in sockets if s.status == "LISTEN"} == {"127.0.0.1"}

    def test_second_server_on_the_same_directory_is_refused(self, tmp_path: Path):
        with EmbeddedRedis(tmp_path), pytest.raises(DataDirInUse):
            EmbeddedRedis(tmp_path).start()

    def test_given_port_taken_is_a_clear_error(self, tmp_path: Path):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(PortBusy, match=f"port {port}"):
                EmbeddedRedis(tmp_path, port=port).start()
