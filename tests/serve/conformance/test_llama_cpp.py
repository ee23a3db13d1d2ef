"""The llama.cpp engine keeps what every engine promises."""

from collections.abc import Iterator

import pytest

from raymart_serve.conformance import Check, Rig, Subject, checks_for
from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.protocol import Embeds, EngineSpec, Generates
from raymart_serve.models import resolve

Q8_0 = ("bundled:demo-llm.gguf", "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3")
F16 = ("bundled:demo-llm-f16.gguf", "75981b8342985ef9d815fd6faabac9890f1b4cc292987712611cf8a47ba62a66")


@pytest.fixture(scope="module", params=[Q8_0, F16], ids=["q8_0", "f16"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Both revisions of the demo model."""
    spec = EngineSpec(path=resolve(*request.param), context_length=1024, slots=2, waiting_max=3)
    with Rig(Subject(factory=LlamaCppEngine, spec=spec)) as rig:
        yield rig


@pytest.mark.parametrize("check", checks_for(Generates, Embeds), ids=str)
def test_llama_cpp_conforms(rig: Rig, check: Check) -> None:
    rig.run(check)
