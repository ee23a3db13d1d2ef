import pytest

from raymart_core.wire.image import SCHEDULERS
from raymart_serve.engines.diffusers.samplers import SAMPLERS, sampler_name


class TestSamplers:
    def test_they_are_those_that_may_be_asked_for(self) -> None:
        assert tuple(SAMPLERS) == SCHEDULERS

    def test_no_two_are_the_same(self) -> None:
        assert len({(one.class_name, *sorted(one.changes.items())) for one in SAMPLERS.values()}) == len(
            SAMPLERS
        )


class TestSamplerName:
    @pytest.mark.parametrize("name", SCHEDULERS)
    def test_what_a_name_stands_for_has_that_name(self, name: str) -> None:
        assert sampler_name(SAMPLERS[name].class_name, SAMPLERS[name].changes) == name

    def test_scheduler_without_a_name_is_named_by_its_class(self) -> None:
        assert sampler_name("TCDScheduler", {}) == "TCD"
