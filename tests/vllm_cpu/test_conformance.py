"""The conformance kit, on vLLM."""

from collections.abc import Iterator

import pytest

from raymart_serve.conformance import Rig, Subject, checks_for
from raymart_serve.engines.protocol import EngineSpec, Generates
from raymart_serve.engines.vllm import VllmEngine
from raymart_serve.models import resolve

SOURCE = "bundled:demo-llm"
SHA256 = "d050e91e9f7ddcf9d5f1cad2532aa506c4b634743ace78b36c4350477161807b"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    spec = EngineSpec(
        path=resolve(SOURCE, SHA256),
        context_length=1024,
        slots=2,
        waiting_max=3,
        parameters={"tool_parser": "hermes"},
    )
    with Rig(Subject(factory=VllmEngine, spec=spec)) as rig:
        yield rig


@pytest.mark.parametrize("check", checks_for(Generates), ids=str)
def test_conforms(rig: Rig, check) -> None:
    rig.run(check)
