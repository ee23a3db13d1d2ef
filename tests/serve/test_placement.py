import socket
from pathlib import Path

import pytest

from raymart_serve.placement import PoolUnavailable, ServePool


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("t")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))


class TestConnect:
    def test_without_authentication_it_does_not_try(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
        with pytest.raises(PoolUnavailable, match="must be set"):
            ServePool("127.0.0.1:1").connect()

    @pytest.mark.usefixtures("token")
    def test_a_dead_address_is_told_at_once(self) -> None:
        """Ray's own client would retry it for minutes."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            with pytest.raises(PoolUnavailable, match=f"no Ray head listens at 127.0.0.1:{port}"):
                ServePool(f"127.0.0.1:{port}").connect()

    @pytest.mark.usefixtures("token")
    @pytest.mark.parametrize("address", ["127.0.0.1", "", "host:port"])
    def test_an_address_without_port_is_told(self, address: str) -> None:
        with pytest.raises(PoolUnavailable, match="must be host:port"):
            ServePool(address).connect()
