"""`POST /completion`: llama.cpp's own route, for what was written for its server."""

from collections.abc import Sequence
from types import MappingProxyType

from raymart_core.errors import DomainError
from raymart_marketplace.gateway.answers import Whole
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.completions.llama_body import parse_llama
from raymart_marketplace.gateway.completions.llama_reply import LlamaStream, llama_body
from raymart_marketplace.gateway.events import Started
from raymart_marketplace.gateway.generation_route import GenerationRoute


class LlamaCompletionRoute(GenerationRoute):
    """One prompt continued, streamed or in one piece."""

    names = MappingProxyType(
        {
            "prompt_ids": "prompt",
            "max_tokens": "n_predict",
            "top_logprobs": "n_probs",
            "response_format": "json_schema",
        }
    )

    def parse(self, body: bytes) -> Asked:
        """llama.cpp's body."""
        return parse_llama(body)

    def written(self, asked: Asked, choices: Sequence[Whole | DomainError]) -> bytes:
        """llama.cpp's object."""
        (choice,) = choices
        assert isinstance(choice, Whole), "the only choice"
        return llama_body(asked, choice)

    def chunks(self, asked: Asked, started: Started, index: int) -> LlamaStream:
        """The same in pieces."""
        assert index == 0, "the only choice"
        return LlamaStream(asked, started)
