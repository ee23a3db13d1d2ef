"""What holds where vLLM is not installed. All else is in `tests/vllm_cpu` (`make test-vllm`)."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from raymart_serve.engines.protocol import EngineFailed, EngineSpec, Generates
from raymart_serve.engines.registry import engine_factory


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
class TestWithoutVllm:
    async def test_it_can_be_named_and_says_what_to_install(self):
        engine = engine_factory("vllm")(EngineSpec(path=Path("nowhere"), context_length=16, slots=1))
        assert isinstance(engine, Generates)
        assert engine.label == "vllm not installed"
        assert (await engine.health()).state == "loading"
        with pytest.raises(EngineFailed, match="extra 'vllm'"):
            await engine.load(lambda _: None)
        await engine.close()
