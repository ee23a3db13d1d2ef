"""A replica process on vLLM: its port, and what is left of it when it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from raymart_core.wire.replica import GENERATE_PATH

SOURCE = "bundled:demo-llm"
SHA256 = "d050e91e9f7ddcf9d5f1cad2532aa506c4b634743ace78b36c4350477161807b"
REVISION = "sha256:" + "12" * 32
GONE_WITHIN_S = 30


@pytest.fixture
def replica() -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """The process, and what it printed when it was ready."""
    command = [
        sys.executable,
        "-m",
        "raymart_serve.replica",
        "--engine",
        "vllm",
        "--source",
        SOURCE,
        "--sha256",
        SHA256,
    ]
    command += ["--revision", REVISION, "--model", "raymart/demo-chat", "--parameter", "tool_parser=hermes"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def lines_of(address: str, secret: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {secret}"}
    answer = httpx.post(f"http://{address}{GENERATE_PATH}", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


class TestReplicaProcess:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
    def test_it_answers_on_its_port_and_leaves_no_process_behind(
        self, replica: tuple[subprocess.Popen[bytes], dict[str, str]], number: signal.Signals
    ) -> None:
        process, ready = replica
        tool = {
            "name": "get_weather",
            "description": "the weather in a city",
            "parameters": {"type": "object"},
        }
        prompt, *steps, finish = lines_of(
            ready["address"],
            ready["secret"],
            {
                "sampling": {"max_tokens": 60, "temperature": 0},
                "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
                "options": {"tools": [tool]},
            },
        )
        assert prompt["e"] == "p"
        pieces = [piece for step in steps for piece in step.get("tool", ())]
        assert pieces[0]["name"] == "get_weather"
        assert json.loads("".join(piece.get("arguments", "") for piece in pieces)) == {"city": "Oslo"}
        assert (finish["engine"], finish["finish"]) == ("vllm 0.32.0", "stop")
        assert finish["usage"]["completion"] == steps[-1]["n"]

        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        os.kill(process.pid, number)
        process.wait(GONE_WITHIN_S)
        _, left = psutil.wait_procs(children, timeout=GONE_WITHIN_S)
        for child in left:
            child.kill()
        assert left == []
