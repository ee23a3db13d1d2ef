"""`raymart` at another terminal finds the stack that runs on this machine."""

import stat
from pathlib import Path

import pytest

from raymart_graphql.operator.running import control_settings
from raymart_graphql.operator.settings import StackSettings
from raymart_local.operator_settings import told_to_operators
from support.command_line import SECRET, failed, run

ODD = 'it\'s \\ a "${HOME}" # $x'


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As at a shell where nothing is set but where the stack keeps its data."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("RAYMART_DATA_DIR", str(tmp_path))


def told(folder: Path, **settings: str):
    base = {"DATABASE_URL": "postgresql://r:p@127.0.0.1:1/raymart", "RAYMART_TOKEN_SECRET": SECRET}
    return told_to_operators(folder / "operator.env", base | settings)


class TestStackSettings:
    def test_command_works_without_a_setting_of_its_own(self, database_url: str, tmp_path: Path):
        data_dir = {"RAYMART_DATA_DIR": str(tmp_path)}
        with told(tmp_path, DATABASE_URL=database_url):
            done = run(None, "model", "list", "-o", "json", **data_dir)
        assert done.returncode == 0, done.stderr
        assert "DATABASE_URL" in failed(run(None, "model", "list", **data_dir), status=2)

    def test_settings_are_those_of_the_stack_character_by_character(self, tmp_path: Path):
        with told(tmp_path, RAYMART_MODEL_KEY="m" * 40, RAYMART_SELLER_ADDRESS=ODD):
            settings = control_settings()
        assert settings.seller_address == ODD
        assert [key.get_secret_value() for key in settings.model_key] == ["m" * 40]

    def test_file_is_the_owners_alone_and_goes_with_the_stack(self, tmp_path: Path):
        with told(tmp_path):
            [path] = tmp_path.iterdir()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert StackSettings().file == path
        assert not path.exists()

    def test_who_names_a_database_is_not_sent_to_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("DATABASE_URL", "postgresql://production/raymart")
        monkeypatch.setenv("RAYMART_TOKEN_SECRET", "t" * 32)
        with told(tmp_path, RAYMART_MODEL_KEY="m" * 40):
            settings = control_settings()
        assert (settings.database_url, settings.model_key) == ("postgresql://production/raymart", ())

    def test_file_that_others_may_write_is_not_believed(self, tmp_path: Path):
        with told(tmp_path):
            (tmp_path / "operator.env").chmod(0o620)
            assert StackSettings().file is None
