"""Engines by name. Others add theirs through the entry-point group `raymart.engines`."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from raymart_core.errors import RaymartError
from raymart_serve.engines.protocol import Engine, EngineSpec

GROUP = "raymart.engines"
_BUILT_IN = {
    "diffusers": "raymart_serve.engines.diffusers:DiffusersEngine",
    "llama_cpp": "raymart_serve.engines.llama_cpp:LlamaCppEngine",
    "onnx": "raymart_serve.engines.onnx:open_onnx_engine",
    "vllm": "raymart_serve.engines.vllm:VllmEngine",
}

EngineFactory = Callable[[EngineSpec], Engine]


class UnknownEngine(RaymartError):
    """No engine has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"engine {name!r} is not installed; there are {', '.join(engine_names())} (entry points {GROUP!r})"
        )
        self.name = name


def engine_names() -> tuple[str, ...]:
    """All engines that can be asked for, sorted."""
    return tuple(sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))}))


def engine_factory(name: str) -> EngineFactory:
    """The class of the engine `name`; imports its module. Raises: UnknownEngine."""
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return cast("EngineFactory", vars(import_module(module))[attribute])
    found: EntryPoint | None = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise UnknownEngine(name)
    return cast("EngineFactory", found.load())
