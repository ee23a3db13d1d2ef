import socket
import stat

import pytest

from raymart_providers.errors import ProviderError, UnsafeFile
from raymart_providers.ray_process.own_files import TEMP_DIR_BYTES_MAX, RayHome


@pytest.fixture
def home(tmp_path):
    home = RayHome(tmp_path / "state" / "ray")
    try:
        yield home
    finally:
        home.forget()


class TestPrepare:
    def test_a_token_is_made_once_and_is_closed_to_others(self, home):
        home.prepare()
        token = home.token.read_text()
        home.prepare()
        assert len(token) == 64
        assert home.token.read_text() == token
        assert stat.S_IMODE(home.token.stat().st_mode) == 0o600

    def test_a_token_that_others_may_read_is_not_used(self, home):
        home.prepare()
        home.token.chmod(0o644)
        with pytest.raises(UnsafeFile, match="chmod 600"):
            home.prepare()

    def test_sockets_of_a_long_path_keep_within_the_systems_limit(self, tmp_path):
        home = RayHome(tmp_path / ("x" * 100) / "ray")
        home.prepare()
        try:
            assert len(str(home.temp_dir)) <= TEMP_DIR_BYTES_MAX
            assert stat.S_IMODE(home.session.stat().st_mode) == 0o700
        finally:
            home.forget()
        assert not home.session.exists()

    def test_a_directory_that_somebody_else_put_there_is_not_used(self, home):
        home.prepare()
        home.session.chmod(0o777)
        with pytest.raises(ProviderError, match="open to others"):
            home.prepare()

    def test_what_ray_opens_to_everybody_stays_behind_a_closed_door(self, home):
        """Ray gives its temp directory mode 0777."""
        home.prepare()
        home.temp_dir.mkdir(mode=0o700)
        home.temp_dir.chmod(0o777)
        home.prepare()
        assert stat.S_IMODE(home.session.stat().st_mode) == 0o700

    def test_only_our_own_files_are_cleared(self, home, tmp_path):
        outside = tmp_path / "theirs"
        outside.mkdir()
        (outside / "file").touch()
        home.prepare()
        (home.session / "session_old").mkdir()
        (home.session / "link").symlink_to(outside)
        home.clear_session()
        assert list(home.session.iterdir()) == []
        assert (outside / "file").exists()


class TestHeadPort:
    def test_it_stays_the_same_while_it_is_free(self, home):
        home.prepare()
        assert home.head_port("127.0.0.1") == home.head_port("127.0.0.1")

    def test_a_port_that_another_has_taken_is_given_up(self, home):
        home.prepare()
        port = home.head_port("127.0.0.1")
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            other.listen()
            assert home.head_port("127.0.0.1") != port

    def test_the_port_of_a_ray_that_still_runs_is_kept(self, home):
        home.prepare()
        port = home.head_port("127.0.0.1")
        home.record.touch()
        with socket.socket() as head:
            head.bind(("127.0.0.1", port))
            head.listen()
            assert home.head_port("127.0.0.1") == port

    def test_an_address_of_another_machine_is_refused(self, home):
        home.prepare()
        with pytest.raises(ProviderError, match="--ray-host"):
            home.head_port("192.0.2.1")
