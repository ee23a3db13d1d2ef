"""`POST /v1/chat/completions`: OpenAI's body and answers."""

from collections.abc import Sequence

from raymart_core.errors import DomainError
from raymart_marketplace.gateway.answers import Whole
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.events import Started
from raymart_marketplace.gateway.generation_route import GenerationRoute
from raymart_marketplace.gateway.openai_chat import parse_chat
from raymart_marketplace.gateway.openai_reply import completion_body
from raymart_marketplace.gateway.openai_stream import ChatStream


class ChatCompletionsRoute(GenerationRoute):
    """Chat completions, streamed or in one piece."""

    def parse(self, body: bytes) -> Asked:
        """OpenAI's body."""
        return parse_chat(body)

    def written(self, asked: Asked, choices: Sequence[Whole | DomainError]) -> bytes:
        """OpenAI's `chat.completion`."""
        return completion_body(choices)

    def chunks(self, asked: Asked, started: Started, index: int) -> ChatStream:
        """OpenAI's `chat.completion.chunk`s."""
        return ChatStream(started, include_usage=asked.include_usage, index=index)
