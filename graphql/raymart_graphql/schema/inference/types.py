"""Chat completions: OpenAI's body in camelCase, and what comes back."""

from datetime import datetime
from decimal import Decimal

import strawberry

from raymart_core.wire import replica
from raymart_graphql.context import Info
from raymart_graphql.enums import FinishReason, expose
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.inference.roles import ChatRole
from raymart_graphql.schema.supply.types import Provider
from raymart_graphql.schema.usage.types import TokenUsage
from raymart_graphql.schema.user_error import Payload, UserError
from raymart_marketplace.routing.preference import Sort

expose(
    Sort,
    name="ProviderSort",
    description="What decides among endpoints that meet every need.",
    values={
        "PRICE": "The cheapest for this request's bounds.",
        "LATENCY": "The least busy.",
        "THROUGHPUT": "As LATENCY, until throughput is measured.",
    },
)


@strawberry.input(description="One turn of a conversation.")
class ChatMessageInput:
    """OpenAI's message with text content."""

    role: ChatRole = strawberry.field(description="Whose turn it is.")
    content: str = strawberry.field(description="What is said, as plain text.")
    name: str | None = strawberry.field(default=None, description="Name of the speaker among several.")


@strawberry.input(description="Highest acceptable prices, in US dollars per million tokens.")
class MaxPriceInput:
    """OpenRouter's `max_price`."""

    prompt_per_million: Decimal | None = strawberry.field(default=None, description="Of prompt tokens.")
    completion_per_million: Decimal | None = strawberry.field(
        default=None, description="Of generated tokens."
    )


@strawberry.input(description="Which providers may serve. OpenRouter's `provider` object; providers by slug.")
class ProviderPreferenceInput:
    """Empty lists and nulls mean no wish."""

    order: list[str] = strawberry.field(default_factory=list, description="These first, in this order.")
    only: list[str] = strawberry.field(default_factory=list, description="No other than these.")
    ignore: list[str] = strawberry.field(default_factory=list, description="None of these.")
    allow_fallbacks: bool = strawberry.field(
        default=True, description="Whether providers outside `order` may serve."
    )
    sort: Sort = strawberry.field(default=Sort.PRICE, description="What decides among the rest.")
    max_price: MaxPriceInput | None = strawberry.field(default=None, description="What it may cost at most.")


@strawberry.input(description="A chat completion to stream: OpenAI's body in camelCase.")
class ChatCompletionInput:
    """Input of the subscription; the mutation's has the same fields."""

    project_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Project that pays; without it, the key's project or the viewer's own default one.",
    )
    model: str = strawberry.field(description="Slug of the model, such as 'raymart/demo-chat'.")
    messages: list[ChatMessageInput] = strawberry.field(description="The conversation so far.")
    max_tokens: int | None = strawberry.field(
        default=None, description="Most tokens to generate; what the context leaves if not given."
    )
    temperature: float = strawberry.field(default=1.0, description="0 to 2; 0 is greedy.")
    top_p: float = strawberry.field(default=1.0, description="Above 0, at most 1.")
    seed: BigInt | None = strawberry.field(
        default=None, description="The same seed, prompt and revision give the same tokens."
    )
    stop: list[str] = strawberry.field(
        default_factory=list, description="At most 4 strings; the answer ends before the first match."
    )
    top_logprobs: int | None = strawberry.field(
        default=None, description="Alternatives per token, 0 to 20; without it, no log-probabilities."
    )
    provider: ProviderPreferenceInput | None = strawberry.field(
        default=None, description="Which providers may serve."
    )


@strawberry.input(description="A chat completion to make: OpenAI's body in camelCase.")
class CreateChatCompletionInput(ChatCompletionInput):
    """Input of the mutation."""


@strawberry.type(description="The natural-log probability of a token.")
class TokenLogprob:
    """Of a generated token or an alternative."""

    token: str = strawberry.field(description="Its text.")
    logprob: float = strawberry.field(description="Its natural-log probability.")
    top: "list[TokenLogprob]" = strawberry.field(
        description="The strongest alternatives; empty on an alternative."
    )

    @classmethod
    def of(cls, found: replica.TokenLogprob) -> "TokenLogprob":
        """`found` as the API shows it."""
        return cls(token=found.token, logprob=found.logprob, top=[cls.of(other) for other in found.top])


@strawberry.type(description="A finished chat completion.")
class ChatCompletion:
    """What a unary request gives back."""

    request_id: strawberry.ID = strawberry.field(description="Id of the request; `node` finds it.")
    model: str = strawberry.field(description="Slug of the model that answered.")
    text: str = strawberry.field(description="The answer.")
    finish_reason: FinishReason = strawberry.field(description="Why it ended.")
    logprobs: list[TokenLogprob] | None = strawberry.field(
        description="One per token, when they were asked for."
    )
    usage: TokenUsage = strawberry.field(description="What was used.")
    cost: Money = strawberry.field(description="What it cost.")
    attempts: int = strawberry.field(description="Endpoints that were tried.")
    created_at: datetime = strawberry.field(description="When the request arrived.")
    provider_slug: strawberry.Private[str]

    @resolved("Who served it; null only if the provider was renamed meanwhile.")
    async def provider(self, info: Info) -> Provider | None:
        """The serving provider by slug."""
        return await info.context.loaders.supply.provider_by_slug.load(self.provider_slug)


@strawberry.type(description="What createChatCompletion gives back.")
class CreateChatCompletionPayload(Payload):
    """The completion, or why there is none."""

    completion: ChatCompletion | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type(description="A piece of a streamed chat completion. The last one carries usage and cost.")
class ChatCompletionChunk:
    """Deltas, then one chunk with the totals."""

    request_id: strawberry.ID | None = strawberry.field(
        default=None, description="Id of the request; null when it was refused before it began."
    )
    model: str | None = strawberry.field(
        default=None, description="Slug of the model that answers; null when none does."
    )
    delta: str = strawberry.field(default="", description="Text to append; empty in the last chunk.")
    logprobs: list[TokenLogprob] | None = strawberry.field(
        default=None, description="Of this chunk's tokens, when they were asked for."
    )
    finish_reason: FinishReason | None = strawberry.field(
        default=None, description="Why it ended; only in the last chunk."
    )
    usage: TokenUsage | None = strawberry.field(
        default=None, description="What was used; only in the last chunk."
    )
    cost: Money | None = strawberry.field(default=None, description="What it cost; only in the last chunk.")
    attempts: int | None = strawberry.field(
        default=None, description="Endpoints tried; only in the last chunk."
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="Why it was refused or broke off; only in the last chunk."
    )
    provider_slug: strawberry.Private[str | None] = None

    @resolved("Who serves it; null when it was refused.")
    async def provider(self, info: Info) -> Provider | None:
        """The serving provider by slug."""
        if self.provider_slug is None:
            return None
        return await info.context.loaders.supply.provider_by_slug.load(self.provider_slug)
