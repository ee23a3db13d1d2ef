"""What is kept of one request, and how it is taken from a running one without holding that up."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from uuid import UUID

import msgspec

from raymart_core.wire.replica import ChatMessage
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.events import Delta, InferenceEvent, Started
from raymart_marketplace.gateway.request import ChatRequest


class Exchange(msgspec.Struct, frozen=True):
    """What was asked and what was answered, as it is sealed."""

    messages: tuple[ChatMessage, ...]
    completion: str
    """As far as it was delivered."""


class Ended(msgspec.Struct, frozen=True):
    """An exchange that is over and may be stored."""

    request_id: UUID
    organization_id: UUID
    api_key_id: UUID
    exchange: Exchange

    @property
    def size(self) -> int:
        """About how many characters it has; what waits to be stored is bounded by their sum."""
        return len(self.exchange.completion) + sum(len(message.content) for message in self.exchange.messages)


Keep = Callable[[Ended], None]
"""Takes an exchange to store, or drops it; returns at once."""


async def kept(
    events: AsyncGenerator[InferenceEvent, None], caller: Caller, request: ChatRequest, keep: Keep
) -> AsyncGenerator[InferenceEvent, None]:
    """Hand on `events`, and `keep` what was said once they have ended, however they did.

    A request whose answer never began leaves nothing. For callers with an API key.
    """
    assert caller.api_key_id is not None, "retention is a wish of a key's"
    request_id: UUID | None = None
    said: list[str] = []
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Delta):
                    said.append(event.text)
                elif isinstance(event, Started):
                    request_id = event.request_id
                yield event
    finally:
        if request_id is not None:
            keep(
                Ended(
                    request_id=request_id,
                    organization_id=caller.organization_id,
                    api_key_id=caller.api_key_id,
                    exchange=Exchange(messages=request.turns, completion="".join(said)),
                )
            )
