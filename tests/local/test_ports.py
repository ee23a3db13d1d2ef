import socket
from pathlib import Path

from raymart_local.ports import free_port, is_free, is_open, remembered_port


class TestPorts:
    def test_listening_port_is_open_and_not_free(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert is_open(port)
            assert not is_free(port)

    def test_free_port_is_free_and_not_open(self):
        port = free_port()
        assert is_free(port)
        assert not is_open(port)

    def test_port_is_remembered_while_it_is_free(self, tmp_path: Path):
        port = remembered_port(tmp_path / "port")
        assert remembered_port(tmp_path / "port") == port
        with socket.create_server(("127.0.0.1", port)):
            other = remembered_port(tmp_path / "port")
        assert other != port
        assert remembered_port(tmp_path / "port") == other

    def test_damaged_file_is_replaced(self, tmp_path: Path):
        (tmp_path / "port").write_text("not a port")
        assert is_free(remembered_port(tmp_path / "port"))
