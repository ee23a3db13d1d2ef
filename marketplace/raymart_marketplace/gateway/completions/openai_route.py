"""`POST /v1/completions`: OpenAI's older route, for prompts that no chat template is put around."""

from collections.abc import Sequence
from types import MappingProxyType

from raymart_core.errors import DomainError
from raymart_marketplace.gateway.answers import Whole
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.completions.openai_body import parse_completion
from raymart_marketplace.gateway.completions.openai_reply import TextStream, text_body
from raymart_marketplace.gateway.events import Started
from raymart_marketplace.gateway.generation_route import GenerationRoute


class CompletionsRoute(GenerationRoute):
    """Text completions, streamed or in one piece."""

    names = MappingProxyType({"prompt_ids": "prompt", "top_logprobs": "logprobs"})

    def parse(self, body: bytes) -> Asked:
        """OpenAI's body."""
        return parse_completion(body)

    def written(self, asked: Asked, choices: Sequence[Whole | DomainError]) -> bytes:
        """OpenAI's `text_completion`."""
        return text_body(asked, choices)

    def chunks(self, asked: Asked, started: Started, index: int) -> TextStream:
        """The same in pieces."""
        return TextStream(asked, started, index)
