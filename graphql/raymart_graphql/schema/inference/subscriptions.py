"""A chat completion as it is generated."""

from collections.abc import AsyncGenerator

import msgspec
import strawberry

from raymart_core.errors import DomainError
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import FinishReason
from raymart_graphql.fields import subscription
from raymart_graphql.relay import global_id
from raymart_graphql.scalars import Money
from raymart_graphql.schema.inference.stream import inference_events
from raymart_graphql.schema.inference.types import (
    AnswerCache,
    ChatCompletionChunk,
    ChatCompletionInput,
    Resumption,
    TokenLogprob,
)
from raymart_graphql.schema.usage.types import TokenUsage
from raymart_graphql.schema.user_error import UserError
from raymart_marketplace.gateway.events import Broken, Delta, Finished, Resumed, Started, Waiting


@strawberry.type
class InferenceSubscription:
    """Root fields of the domain."""

    @subscription(
        "Stream a chat completion: deltas, then one chunk with usage and cost. Closing the subscription "
        "stops the generation; what was delivered is billed."
    )
    async def chat_completion(
        self, info: Info, input_: ChatCompletionInput
    ) -> AsyncGenerator[ChatCompletionChunk, None]:
        """Through the same pipeline as `/v1/chat/completions`."""
        started: Started | None = None
        try:
            async with inference_events(info.context, input_, streamed=True) as events:
                async for event in events:
                    if isinstance(event, Started):
                        started = event
                        continue
                    assert started is not None
                    if isinstance(event, Waiting):
                        continue  # The socket has pings of its own.
                    if isinstance(event, Resumed):
                        started = msgspec.structs.replace(started, provider=event.provider)
                        continue
                    yield _chunk(started, event)
                    # What the chunk's own fields read is done; no transaction waits for the next token.
                    await info.context.reading.aclose()
        except DomainError as error:
            yield ChatCompletionChunk(user_errors=[UserError.of(error)])


def _chunk(started: Started, event: Delta | Finished | Broken) -> ChatCompletionChunk:
    request_id = global_id(Prefix.REQUEST, started.request_id)
    answer_cache = None if started.cache is None else AnswerCache(started.cache)
    if isinstance(event, Delta):
        return ChatCompletionChunk(
            request_id=request_id,
            model=started.model,
            provider_slug=started.provider,
            delta=event.text,
            logprobs=[TokenLogprob.of(found) for found in event.logprobs] if event.logprobs else None,
            answer_cache=answer_cache,
        )
    return ChatCompletionChunk(
        request_id=request_id,
        model=started.model,
        provider_slug=event.provider,
        finish_reason=event.finish_reason if isinstance(event, Finished) else FinishReason.ERROR,
        usage=TokenUsage.of(tokens_prompt=event.tokens_prompt, tokens_completion=event.tokens_completion),
        cost=Money.of(event.cost),
        attempts=event.attempts,
        resumed=[Resumption.of(resumed) for resumed in event.resumed],
        user_errors=[UserError.of(event.error)] if isinstance(event, Broken) else [],
        answer_cache=answer_cache,
    )
