"""A manifest's parameters are read strictly: what is not understood must not be served."""

import pytest

from raymart_serve.engines.protocol import EngineFailed
from raymart_serve.engines.vllm.parameters import read_parameters


class TestReadParameters:
    def test_without_any_it_is_the_cpu_and_nothing_is_compiled(self):
        parameters = read_parameters({})
        assert (parameters.gpus, parameters.parallel, parameters.enforce_eager) == (0, 1, True)

    def test_gpus_share_the_model(self):
        parameters = read_parameters({"gpus": "4", "quantization": "fp8", "tool_parser": "hermes"})
        assert (parameters.parallel, parameters.enforce_eager) == (4, False)
        assert (parameters.quantization, parameters.tool_parser) == ("fp8", "hermes")
        assert read_parameters({"gpus": "4", "tensor_parallel_size": "2"}).parallel == 2
        assert read_parameters({"gpus": "1", "eager": "true"}).enforce_eager

    @pytest.mark.parametrize(
        ("parameters", "said"),
        [
            ({"tool_praser": "hermes"}, "tool_praser"),
            ({"gpus": "some"}, "gpus"),
            ({"gpus": "-1"}, "negative"),
            ({"gpu_memory_utilization": "1.5"}, "above 0, at most 1"),
            ({"eager": "yes"}, "eager"),
            ({"trust_remote_code": "true"}, "trust_remote_code"),
        ],
    )
    def test_what_is_wrong_is_said(self, parameters: dict[str, str], said: str):
        with pytest.raises(EngineFailed, match=said):
            read_parameters(parameters)
