from pathlib import Path

import pytest
from pydantic import ValidationError

from raymart_serve.settings import ReplicaSettings


class TestReplicaSettings:
    def test_they_come_from_the_machine_s_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAYMART_AGENT_FILE", "/tmp/agent.json")
        monkeypatch.setenv("RAYMART_REPLICA_HOST", "10.1.2.3")
        settings = ReplicaSettings()
        assert (settings.agent_file, settings.replica_host) == (Path("/tmp/agent.json"), "10.1.2.3")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "somewhere"])
    def test_an_address_open_to_everybody_is_refused(
        self, host: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAYMART_REPLICA_HOST", host)
        with pytest.raises(ValidationError):
            ReplicaSettings()
