"""LiteLLM's proxy as a peer: tuned, with key authentication and limits in Redis, in an environment of its own below `.bench/`.

Its virtual keys in a database are left out (their engine is no part of its packages), so what it costs here is a lower
bound. Tuned: httptools and uvloop, the OpenTelemetry packages it tries to import on every request, no debug log,
production mode, the model by its exact name. Nothing is cached of answers.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gateway_load import Target
from nginx_peer import PEERS
from processes import HERE, pinned, stop, wait_for_http
from progress import say

ENVIRONMENT = PEERS / "litellm"
REQUIREMENTS = HERE / "litellm" / "requirements.txt"
_INSTALL_TIMEOUT_S = 600
SHARE = 0.05
"""A request of its costs a hundred of ours."""


@contextlib.contextmanager
def litellm(folder: Path, *, upstream_port: int, redis_url: str, workers: int = 1) -> Iterator[Target]:
    """The proxy in front of the upstream until the block ends, on core 0. Raises: RuntimeError, TimeoutError."""
    folder.mkdir()
    _install()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shutil.copy(HERE / "litellm" / "key_auth.py", folder)
    (folder / "config.yaml").write_text(json.dumps(_configuration(upstream_port, redis_url)))
    program = str(ENVIRONMENT / "bin" / "litellm")
    command = [
        program,
        "--config",
        "config.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        str(workers),
    ]
    environment = {
        "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # Else it asks the internet for prices when it starts.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    with (folder / "litellm.log").open("w") as log:
        process = subprocess.Popen(
            pinned(command, core=0), cwd=folder, env=environment, text=True, stdout=log, stderr=log
        )
        try:
            wait_for_http(f"http://127.0.0.1:{port}/health/liveliness", process)
            yield Target(name="LiteLLM", pid=process.pid, port=port, share=SHARE)
        finally:
            stop(process)


def _configuration(upstream_port: int, redis_url: str) -> dict[str, object]:
    """As YAML reads it; JSON is YAML."""
    redis = urlsplit(redis_url)
    upstream = {"model": "openai/mock", "api_base": f"http://127.0.0.1:{upstream_port}/v1", "api_key": "sk-x"}
    limits = {
        "type": "redis", "host": redis.hostname, "port": redis.port, "password": redis.password,
        "supported_call_types": [],
    }  # fmt: skip
    return {
        "model_list": [{"model_name": "mock", "litellm_params": upstream}],
        "litellm_settings": {"cache": True, "cache_params": limits, "telemetry": False},
        "general_settings": {"custom_auth": "key_auth.user_api_key_auth"},
    }


def _install() -> None:
    """Into an environment of its own, once. Raises: RuntimeError."""
    stamp = ENVIRONMENT / ".synced"
    if stamp.exists() and stamp.stat().st_mtime > REQUIREMENTS.stat().st_mtime:
        return
    uv = os.environ.get("UV") or shutil.which("uv") or str(HERE.parent.parent / ".boot" / "bin" / "uv")
    say("installing LiteLLM into .bench/litellm")
    python = str(ENVIRONMENT / "bin" / "python")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)],
        [uv, "pip", "sync", "--quiet", "--python", python, str(REQUIREMENTS)],
    ):
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S
        )
        if done.returncode:
            raise RuntimeError(f"LiteLLM could not be installed: {done.stderr[-500:]}")
    stamp.touch()
