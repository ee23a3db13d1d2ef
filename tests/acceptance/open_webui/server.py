"""Open WebUI as people run it, on a free port and in a folder of its own, with us as its provider of chat and pictures."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from demo import CHAT, Stack
from pictures import GUIDANCE, MODEL, SIDE_PIXELS, STEPS

_START_S = 300.0
"""It migrates a database and loads torch first."""


@contextlib.contextmanager
def open_webui(known: Stack, folder: Path) -> Iterator[str]:
    """Its origin, once it answers. It is given what its administrator would set."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "open-webui.log"
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("open-webui"),
                *("serve", "--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=folder,
            env={**os.environ, **_settings(known, folder)},
            stdout=lines,
            stderr=subprocess.STDOUT,
        )
    origin = f"http://127.0.0.1:{port}"
    try:
        _wait(origin, process, log)
        yield origin
    except BaseException:
        print(log.read_text(errors="replace")[-3_000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _settings(known: Stack, folder: Path) -> dict[str, str]:
    return {
        "DATA_DIR": str(folder / "data"),
        "WEBUI_AUTH": "false",
        "WEBUI_SECRET_KEY": "of this run alone",
        "ENABLE_PERSISTENT_CONFIG": "false",
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "ENABLE_OLLAMA_API": "false",
        "RAG_EMBEDDING_ENGINE": "openai",
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "true",
        "OPENAI_API_BASE_URL": known.base_url,
        "OPENAI_API_KEY": known.api_key,
        "DEFAULT_MODELS": CHAT,
        # Its own tools take 4,000 tokens of every prompt, more than the demo model's context has.
        "DEFAULT_MODEL_PARAMS": json.dumps({"function_calling": "legacy", "temperature": 0}),
        "ENABLE_IMAGE_GENERATION": "true",
        "ENABLE_IMAGE_PROMPT_GENERATION": "false",
        "IMAGE_GENERATION_ENGINE": "automatic1111",
        "AUTOMATIC1111_BASE_URL": known.origin,
        "AUTOMATIC1111_API_AUTH": f"anybody:{known.api_key}",
        "AUTOMATIC1111_PARAMS": json.dumps({"cfg_scale": GUIDANCE, "seed": 11, "sampler_name": "DDIM"}),
        "IMAGE_GENERATION_MODEL": MODEL,
        "IMAGE_SIZE": f"{SIDE_PIXELS}x{SIDE_PIXELS}",
        "IMAGE_STEPS": str(STEPS),
    }


def _wait(origin: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"{origin}/health", timeout=2).status == 200:
                return
        if process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"Open WebUI did not start; {log} says why")
        time.sleep(0.5)
