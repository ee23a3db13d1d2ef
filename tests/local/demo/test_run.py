"""What the demo takes from the environment, and what it does not."""

from pathlib import Path

import pytest

from raymart_local.control_plane import ControlPlane
from raymart_local.demo.run import own_settings
from raymart_local.layout import Layout
from raymart_local.settings import LocalSettings


class TestOwnSettings:
    def test_it_never_pays_on_a_chain_that_the_environment_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("SOLANA_RPC_URL", "https://mainnet.example")
        own = own_settings(LocalSettings(data_dir=tmp_path))
        plane = ControlPlane(own, layout=Layout(own.data_dir), environment={}, endpoints_min=2)
        assert "solana" in {part.name for part in plane.parts()}

    def test_it_keeps_its_data_apart(self, tmp_path: Path):
        given = LocalSettings(data_dir=tmp_path)
        assert own_settings(given).data_dir == tmp_path / "demo"
