"""The ONNX embedder keeps what every engine promises."""

from collections.abc import Iterator

import pytest

from raymart_serve.conformance import Check, Rig, Subject, checks_for
from raymart_serve.engines.onnx import open_onnx_engine
from raymart_serve.engines.protocol import Embeds, EngineSpec, Reranks
from raymart_serve.models import resolve

DEMO = ("bundled:demo-embed", "a67eaa349702fe92e8c631b6425dc2f360f5903a678ac5b1e9a860ae019093d5")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    spec = EngineSpec(path=resolve(*DEMO), context_length=512, slots=2, waiting_max=3, threads=1)
    with Rig(Subject(factory=open_onnx_engine, spec=spec)) as rig:
        yield rig


@pytest.mark.parametrize("check", checks_for(Embeds, Reranks), ids=str)
def test_onnx_conforms(rig: Rig, check: Check) -> None:
    rig.run(check)
