import pytest

from raymart_providers.errors import AgentRunning
from raymart_providers.state_dir import StateDir


class TestHold:
    def test_a_second_agent_is_kept_out_and_may_come_later(self, tmp_path):
        state = StateDir(tmp_path / "node")
        with state.hold(), pytest.raises(AgentRunning, match="--state-dir"), state.hold():
            pass
        with state.hold():
            pass

    def test_the_directory_is_closed_to_others(self, tmp_path):
        state = StateDir(tmp_path / "node")
        state.create()
        assert state.root.stat().st_mode & 0o777 == 0o700

    def test_forgetting_is_complete_and_repeatable(self, tmp_path):
        state = StateDir(tmp_path / "node")
        state.create()
        state.key.touch()
        state.forget()
        state.forget()
        assert not state.key.exists()
