import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from raymart_providers.errors import ProviderError
from raymart_providers.service_unit import ServiceUnit, hand_over, here, installed
from raymart_providers.settings import AgentSettings
from raymart_providers.state_dir import StateDir


def unit(tmp_path: Path, **changes) -> ServiceUnit:
    values = {
        "name": "gpu-1",
        "command": ("/usr/bin/env", "join", f"--state-dir={tmp_path}"),
        "writable": (tmp_path,),
        "user": "daemon",
        "drain_s": 20.0,
        "gpus": True,
        "system": True,
        **changes,
    }
    return ServiceUnit(**values)


def service(text: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(text)
    return dict(parser["Service"])


class TestText:
    def test_it_may_write_its_own_folders_and_gain_nothing(self, tmp_path):
        found = service(unit(tmp_path).text())
        assert found["ReadWritePaths"] == str(tmp_path)
        for name, value in {
            "NoNewPrivileges": "yes",
            "ProtectSystem": "strict",
            "PrivateTmp": "yes",
            "CapabilityBoundingSet": "",
            "User": "daemon",
            "KillMode": "mixed",
            "TimeoutStopSec": "80",
        }.items():
            assert found[name] == value

    def test_only_gpus_are_seen_of_the_devices_and_none_without_one(self, tmp_path):
        with_gpus = unit(tmp_path).text()
        assert "DevicePolicy=closed" in with_gpus
        assert "DeviceAllow=char-nvidia-uvm rw" in with_gpus
        without = unit(tmp_path, gpus=False).text()
        assert "PrivateDevices=yes" in without
        assert "DeviceAllow" not in without

    def test_what_systemd_would_expand_means_itself(self, tmp_path):
        text = unit(
            tmp_path, command=("/bin/x", "--name=50% $HOME a"), environment=(("RAYMART_GPUS", "a b%$c"),)
        ).text()
        assert 'ExecStart=/bin/x "--name=50%% $$HOME a"' in text
        assert 'Environment="RAYMART_GPUS=a b%%$c"' in text

    def test_a_line_break_cannot_add_a_line_to_the_unit(self, tmp_path):
        with pytest.raises(ProviderError, match="line break"):
            unit(tmp_path, command=("/bin/x", "a\nExecStartPre=/bin/evil")).text()

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
    @pytest.mark.parametrize("changes", [{}, {"gpus": False}, {"system": False}])
    def test_systemd_finds_nothing_wrong_with_it(self, tmp_path, changes):
        path = tmp_path / "raymart-provider-gpu-1.service"
        path.write_text(unit(tmp_path, **changes).text())
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        said = [line for line in verified.stderr.splitlines() if path.name in line]
        assert (verified.returncode, said) == (0, [])


class TestInstalled:
    def test_the_unit_is_written_where_it_is_wanted(self, tmp_path):
        path = installed(unit(tmp_path), folder=tmp_path / "units", start=False)
        assert path == tmp_path / "units" / "raymart-provider-gpu-1.service"
        assert path.read_text() == unit(tmp_path).text()

    def test_a_folder_that_cannot_be_written_is_said(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ProviderError, match="cannot be written"):
            installed(unit(tmp_path), folder=tmp_path / "file" / "units", start=False)


class TestHere:
    def test_settings_of_the_agent_are_kept_and_nothing_else_of_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RAYMART_GPUS", "none")
        monkeypatch.setenv("RAYMART_TOKEN_SECRET", "s3cret")
        monkeypatch.setenv("RAYMART_MODEL_CACHE", str(tmp_path / "models"))
        made = here(
            name="gpu-1",
            arguments=("--ray=auto",),
            settings=AgentSettings(),
            state=StateDir(tmp_path / "node"),
            gpus=False,
            user=None,
        )
        assert ("RAYMART_GPUS", "none") in made.environment
        assert "s3cret" not in made.text()
        assert made.writable == ((tmp_path / "node").resolve(), (tmp_path / "models").resolve())
        assert all(folder.is_dir() for folder in made.writable)
        assert Path(made.command[0]).is_absolute()
        assert made.command[1:] == ("join", "--ray=auto")

    def test_an_account_that_is_not_there_is_said(self, tmp_path):
        with pytest.raises(ProviderError, match="no-such-user"):
            hand_over(tmp_path, "no-such-user")
