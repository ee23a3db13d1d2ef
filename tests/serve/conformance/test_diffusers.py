"""The diffusers engine keeps what every engine promises."""

from collections.abc import Iterator

import pytest

from raymart_serve.conformance import Check, Rig, Subject, checks_for
from raymart_serve.engines.diffusers import DiffusersEngine
from raymart_serve.engines.protocol import MakesImages
from support.image_engine import spec


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(Subject(factory=DiffusersEngine, spec=spec(waiting_max=2))) as rig:
        yield rig


@pytest.mark.parametrize("check", checks_for(MakesImages), ids=str)
def test_diffusers_conforms(rig: Rig, check: Check) -> None:
    rig.run(check)
