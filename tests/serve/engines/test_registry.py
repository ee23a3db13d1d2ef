import subprocess
import sys

import pytest

from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.registry import UnknownEngine, engine_factory, engine_names


class TestEngineFactory:
    def test_built_in_engine_is_found(self) -> None:
        assert engine_factory("llama_cpp") is LlamaCppEngine

    def test_unknown_engine_names_those_that_exist(self) -> None:
        with pytest.raises(UnknownEngine, match=r"'warp' is not installed; there are diffusers, .*llama_cpp"):
            engine_factory("warp")

    def test_names_are_unique(self) -> None:
        assert engine_names().count("llama_cpp") == 1


class TestImports:
    """The node agent imports parts of this package; it must never load Ray or an engine's library."""

    @pytest.mark.parametrize(
        "module",
        [
            "raymart_serve.engines.protocol",
            "raymart_serve.engines.diffusers",
            "raymart_serve.engines.llama_cpp",
            "raymart_serve.replica",
            "raymart_serve.placement",
        ],
    )
    def test_nothing_heavy_is_loaded(self, module: str) -> None:
        code = f"import sys, {module}; print(sorted({{'ray', 'xllamacpp', 'torch'}} & set(sys.modules)))"
        loaded = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        assert loaded.stdout.strip() == "[]"
