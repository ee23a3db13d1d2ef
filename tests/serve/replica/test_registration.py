"""Registration with a node agent that comes, goes and comes back elsewhere."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from raymart_core.wire.replica import ChatMessage, GenerateRequest, Sampling
from raymart_serve.settings import ReplicaSettings
from support.replica_client import ReplicaClient
from support.scripted_agent import ScriptedAgent

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
REVISION = "sha256:" + "12" * 32


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    return tmp_path / "agent.json"


@pytest.fixture
def settings(agent_file: Path) -> ReplicaSettings:
    return ReplicaSettings(agent_file=agent_file)


class TestRegistration:
    def test_a_ready_replica_tells_how_to_reach_it(
        self, run_replica, settings: ReplicaSettings, agent_file: Path
    ) -> None:
        with ScriptedAgent(agent_file) as agent:
            replica = run_replica(settings=settings)
            found = agent.wait_for()
        assert (found.address, found.secret, found.pid) == (replica.address, replica.secret, os.getpid())
        assert (found.model, found.revision) == ("raymart/demo-chat", REVISION)
        assert (found.capacity, found.context_length, found.state) == (2, 1024, "ready")
        assert found.engine.startswith("llama_cpp ")

    def test_it_repeats_every_second(self, run_replica, settings: ReplicaSettings, agent_file: Path) -> None:
        with ScriptedAgent(agent_file) as agent:
            run_replica(settings=settings)
            agent.wait_for()
            agent.forget()
            agent.wait_for(timeout_s=3)

    def test_an_agent_that_comes_later_is_found(
        self, run_replica, settings: ReplicaSettings, agent_file: Path
    ) -> None:
        run_replica(settings=settings)
        with ScriptedAgent(agent_file) as agent:
            agent.wait_for(timeout_s=5)

    def test_a_restarted_agent_is_found_at_its_new_address(
        self, run_replica, settings: ReplicaSettings, agent_file: Path
    ) -> None:
        with ScriptedAgent(agent_file, token="first") as agent:
            replica = run_replica(settings=settings)
            agent.wait_for()
        with ScriptedAgent(agent_file, token="second") as agent:
            assert agent.wait_for(timeout_s=5).address == replica.address

    def test_serving_goes_on_without_an_agent(
        self, run_replica, settings: ReplicaSettings, agent_file: Path
    ) -> None:
        agent_file.write_text("{ not json")
        replica = run_replica(settings=settings)
        with ReplicaClient(replica.address, replica.secret) as client:
            assert client.generate(_ping()).text() == "pong"
        with ScriptedAgent(agent_file) as agent:
            agent.wait_for(timeout_s=5)

    def test_a_wrong_token_is_not_taken_for_success(
        self, run_replica, settings: ReplicaSettings, agent_file: Path
    ) -> None:
        with capture_logs() as logs, ScriptedAgent(agent_file, token="right") as agent:
            good = agent_file.read_text()
            agent_file.write_text(json.dumps(json.loads(good) | {"token": "wrong"}))
            run_replica(settings=settings)
            with pytest.raises(TimeoutError):
                agent.wait_for(timeout_s=1.5)
            assert agent.refused >= 1
            agent_file.write_text(good)
            agent.wait_for(timeout_s=5)
        # Told once, however often it is tried.
        assert [entry["reason"] for entry in logs if entry["event"] == "agent.away"] == [
            "the agent answered 401 Unauthorized"
        ]

    def test_draining_and_gone_are_told_at_once(
        self, run_replica, settings: ReplicaSettings, agent_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("raymart_serve.replica.registration._INTERVAL_S", 3600.0)
        with ScriptedAgent(agent_file) as agent:
            replica = run_replica(settings=settings)
            agent.wait_for()
            with ReplicaClient(replica.address, replica.secret) as client:
                client.request("POST", "/drain").read()
                agent.wait_for(lambda one: one.state == "draining")
            replica.stop()
            assert [one.state for one in agent.registrations] == ["ready", "draining", "gone"]


class TestStandalone:
    def test_it_prints_where_it_is_and_drains_at_sigterm(self, agent_file: Path) -> None:
        command = [sys.executable, "-m", "raymart_serve.replica", "--source", "bundled:demo-llm.gguf"]
        command += ["--sha256", SHA256, "--revision", REVISION, "--model", "raymart/demo-chat"]
        command += ["--agent-file", str(agent_file), "--step-delay-ms", "20"]
        with ScriptedAgent(agent_file) as agent, subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                ready = json.loads(process.stdout.readline())
                assert agent.wait_for().replica_id == ready["replica_id"]
                with ReplicaClient(ready["address"], ready["secret"]) as client:
                    events = client.generate(_ping()).events()
                    next(events)
                    process.send_signal(signal.SIGTERM)
                    agent.wait_for(lambda one: one.state == "draining")
                    assert "".join(event.d for event in list(events)[:-1]) == "pong"
                assert process.wait(10) == 0
            finally:
                process.kill()
            assert agent.registrations[-1].state == "gone"

    def test_wrong_weights_end_it_with_the_reason(self) -> None:
        command = [sys.executable, "-m", "raymart_serve.replica", "--source", "bundled:demo-llm.gguf"]
        command += ["--sha256", "0" * 64, "--revision", REVISION, "--model", "m"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 1
        assert "has SHA-256" in ended.stderr
        assert ended.stdout == ""


def _ping() -> GenerateRequest:
    message = ChatMessage(role="user", content="ping")
    return GenerateRequest(messages=(message,), sampling=Sampling(max_tokens=20, temperature=0.0))
