"""A chat completion in one answer."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import global_id
from raymart_graphql.scalars import Money
from raymart_graphql.schema.inference.stream import inference_events
from raymart_graphql.schema.inference.types import (
    AnswerCache,
    ChatCompletion,
    CreateChatCompletionInput,
    CreateChatCompletionPayload,
    TokenLogprob,
)
from raymart_graphql.schema.usage.types import TokenUsage
from raymart_marketplace.gateway.events import Broken, Delta, Finished, InferenceEvent, Started


@strawberry.type
class InferenceMutation:
    """Root fields of the domain."""

    @mutation("Make a chat completion and wait for all of it. It is billed like a REST request.")
    async def create_chat_completion(
        self, info: Info, input_: CreateChatCompletionInput
    ) -> CreateChatCompletionPayload:
        """Through the same pipeline as `/v1/chat/completions`."""
        async with inference_events(info.context, input_, streamed=False) as events:
            seen = [event async for event in events]
        return CreateChatCompletionPayload(completion=_completion(seen))


def _completion(events: list[InferenceEvent]) -> ChatCompletion:
    """Raises: the DomainError of a request that broke off; what was delivered before is billed, and not shown."""
    started, *_, last = events
    assert isinstance(started, Started)
    if isinstance(last, Broken):
        raise last.error
    assert isinstance(last, Finished)
    deltas = [event for event in events if isinstance(event, Delta)]
    logprobs = [found for delta in deltas for found in delta.logprobs or ()]
    return ChatCompletion(
        request_id=global_id(Prefix.REQUEST, started.request_id),
        model=started.model,
        text="".join(delta.text for delta in deltas),
        finish_reason=last.finish_reason,
        logprobs=[TokenLogprob.of(found) for found in logprobs] or None,
        usage=TokenUsage.of(tokens_prompt=last.tokens_prompt, tokens_completion=last.tokens_completion),
        cost=Money.of(last.cost),
        attempts=last.attempts,
        created_at=started.created_at,
        answer_cache=None if started.cache is None else AnswerCache(started.cache),
        provider_slug=last.provider,
    )
