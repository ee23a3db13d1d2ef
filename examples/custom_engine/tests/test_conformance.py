"""The engine keeps what every Raymart engine promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from raymart_engine_ngram import NgramEngine

from raymart_serve.conformance import Check, Rig, Subject, checks_for
from raymart_serve.engines.protocol import EngineSpec, Generates
from raymart_serve.engines.registry import engine_factory

WEIGHTS = Path(__file__).parents[1] / "answers.txt"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    subject = Subject(
        factory=engine_factory("ngram"),
        spec=EngineSpec(path=WEIGHTS, context_length=512, slots=2, waiting_max=3),
        question="What is an engine?",
        story="Tell me a story.",
        multibyte="Say naïve in two languages.",
        response_format=False,
        tools=False,
    )
    with Rig(subject) as rig:
        yield rig


@pytest.mark.parametrize("check", checks_for(Generates), ids=str)
def test_the_engine_conforms(rig: Rig, check: Check) -> None:
    rig.run(check)


def test_it_is_found_by_its_entry_point() -> None:
    assert engine_factory("ngram") is NgramEngine
