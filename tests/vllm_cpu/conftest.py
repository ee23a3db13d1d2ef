"""The vLLM engine on the bundled model. Runs in `.venv-vllm` (`make test-vllm`), where nothing of the control plane is."""

from collections.abc import AsyncIterator
from importlib.util import find_spec

import pytest

from raymart_serve.engines.protocol import EngineSpec
from raymart_serve.engines.vllm import VllmEngine
from raymart_serve.models import resolve

SOURCE = "bundled:demo-llm"
SHA256 = "d050e91e9f7ddcf9d5f1cad2532aa506c4b634743ace78b36c4350477161807b"

if find_spec("vllm") is None:
    # The other test runs come by here too.
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
async def engine() -> AsyncIterator[VllmEngine]:
    """Loaded and warmed up, with four slots."""
    engine = VllmEngine(
        EngineSpec(
            path=resolve(SOURCE, SHA256),
            context_length=1024,
            slots=4,
            waiting_max=1,
            parameters={"tool_parser": "hermes", "reasoning_parser": "granite"},
        )
    )
    await engine.load(lambda _: None)
    await engine.warm_up()
    yield engine
    await engine.close()
