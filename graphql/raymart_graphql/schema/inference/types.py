"""Chat completions: OpenAI's body in camelCase, and what comes back."""

from datetime import datetime
from decimal import Decimal
from enum import Enum

import strawberry

from raymart_core.wire import replica
from raymart_graphql.context import Info
from raymart_graphql.enums import FinishReason, expose
from raymart_graphql.fields import resolved
from raymart_graphql.routing_enums import DataPolicy, Trust
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.inference.roles import ChatRole
from raymart_graphql.schema.supply.types import Provider
from raymart_graphql.schema.usage.types import TokenUsage
from raymart_graphql.schema.user_error import Payload, UserError
from raymart_marketplace.gateway.events import Resumed
from raymart_marketplace.routing.preference import Sort

expose(
    Sort,
    name="ProviderSort",
    description="What decides among endpoints that meet every need.",
    values={
        "BALANCED": "At random, weighted by the inverse square of the price.",
        "PRICE": "The cheapest for this request's bounds.",
        "LATENCY": "The one that has begun to answer soonest of late.",
        "THROUGHPUT": "The one that has generated fastest of late.",
        "LEAST_LOADED": "The one with the smallest share of its slots taken.",
        "HEALTH": "The one that can be expected to begin soonest, failures and load counted in.",
        "ROUND_ROBIN": "One after the other.",
        "WEIGHTED": "At random, weighted by slots.",
        "AFFINITY": "Where conversations that begin alike went before, for the engine's cache.",
    },
)


class AnswerCache(Enum):
    """The gateway's words for it, `Started.cache`."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


expose(
    AnswerCache,
    name="AnswerCache",
    description="What became of the wish for an answer from the cache.",
    values={
        "HIT": "An answer that was given before was given again.",
        "MISS": "There was none; this one is kept.",
        "BYPASS": "It would not be the same again: neither greedy nor seeded.",
    },
)


@strawberry.input(description="One turn of a conversation.")
class ChatMessageInput:
    """OpenAI's message with text content."""

    role: ChatRole = strawberry.field(description="Whose turn it is.")
    content: str = strawberry.field(description="What is said, as plain text.")
    name: str | None = strawberry.field(default=None, description="Name of the speaker among several.")


@strawberry.input(description="Highest acceptable prices, in US dollars.")
class MaxPriceInput:
    """OpenRouter's `max_price`."""

    prompt_per_million: Decimal | None = strawberry.field(default=None, description="Of prompt tokens.")
    completion_per_million: Decimal | None = strawberry.field(
        default=None, description="Of generated tokens."
    )
    per_request: Decimal | None = strawberry.field(
        default=None, description="Of a request as such, in US dollars."
    )
    per_picture: Decimal | None = strawberry.field(
        default=None, description="The most that one picture may come to, in US dollars."
    )


@strawberry.input(description="Limits of a figure by percentile of the last minutes; all are to be kept.")
class PercentileLimitsInput:
    """Nulls mean no wish."""

    p50: float | None = strawberry.field(default=None, description="Of 50 in 100 answers.")
    p75: float | None = strawberry.field(default=None, description="Of 75 in 100.")
    p90: float | None = strawberry.field(default=None, description="Of 90 in 100.")
    p99: float | None = strawberry.field(default=None, description="Of 99 in 100.")


@strawberry.input(description="Which providers may serve. OpenRouter's `provider` object; providers by slug.")
class ProviderPreferenceInput:
    """Empty lists and nulls mean no wish."""

    order: list[str] = strawberry.field(default_factory=list, description="These first, in this order.")
    only: list[str] = strawberry.field(default_factory=list, description="No other than these.")
    ignore: list[str] = strawberry.field(default_factory=list, description="None of these.")
    allow_fallbacks: bool = strawberry.field(
        default=True, description="Whether providers outside `order` may serve."
    )
    allow_resume: bool = strawberry.field(
        default=True, description="Whether another endpoint may go on with a stream that broke."
    )
    hedge: bool = strawberry.field(
        default=False,
        description="Whether a second endpoint is asked when the first is late; who begins first serves, and is paid alone. Of text only.",
    )
    sort: Sort | None = strawberry.field(
        default=None,
        description="What decides among the rest; without it the marketplace's own way, `BALANCED`.",
    )
    max_price: MaxPriceInput | None = strawberry.field(default=None, description="What it may cost at most.")
    quantizations: list[str] = strawberry.field(
        default_factory=list, description="Weights in one of these number formats only."
    )
    regions: list[str] = strawberry.field(
        default_factory=list,
        description="In one of these only: a region or its beginning, so that 'eu' takes 'eu-west' too.",
    )
    trust: Trust | None = strawberry.field(default=None, description="Machines trusted so far at least.")
    data_policy: DataPolicy | None = strawberry.field(
        default=None, description="Only providers that say so of what they keep."
    )
    require_parameters: bool = strawberry.field(
        default=False,
        description="Only revisions that promise what the request asks for: `seed`, `stop`, log-probabilities.",
    )
    tokens_per_second_min_preferred: float | None = strawberry.field(
        default=None, description="Those that generated slower of late, by the median, come last."
    )
    tokens_per_second_percentiles_min_preferred: PercentileLimitsInput | None = strawberry.field(
        default=None, description="The same by percentile: of so many in 100 answers the rate was lower."
    )
    first_token_ms_max_preferred: float | None = strawberry.field(
        default=None, description="Those that took longer to begin of late, by the median, come last."
    )
    first_token_ms_percentiles_max_preferred: PercentileLimitsInput | None = strawberry.field(
        default=None, description="The same by percentile."
    )


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
    answer_cache_seconds: int | None = strawberry.field(
        default=None,
        description="Take an answer to the same that is in the cache, at a share of its price, or keep this one for so "
        "long: 0 to 86,400, 0 for neither; what the key or project says if not given.",
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
    answer_cache: AnswerCache | None = strawberry.field(
        description="What became of the wish for a cached answer; null without the wish."
    )
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


@strawberry.type(description="Where another provider went on with a stream that lost its endpoint.")
class Resumption:
    """One join of an answer in parts."""

    position: int = strawberry.field(description="Completion tokens that were delivered before.")
    seed: BigInt | None = strawberry.field(
        description="What the rest was sampled with; null when it is greedy."
    )
    provider_slug: strawberry.Private[str]

    @resolved("Who went on; null only if the provider was renamed meanwhile.")
    async def provider(self, info: Info) -> Provider | None:
        """The provider by slug."""
        return await info.context.loaders.supply.provider_by_slug.load(self.provider_slug)

    @classmethod
    def of(cls, resumed: Resumed) -> "Resumption":
        """`resumed` as the API shows it."""
        seed = None if resumed.seed is None else BigInt(resumed.seed)
        return cls(position=resumed.position, seed=seed, provider_slug=resumed.provider)


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
    resumed: list[Resumption] = strawberry.field(
        default_factory=list,
        description="Where the text was taken up by another provider, in order; only in the last chunk.",
    )
    answer_cache: AnswerCache | None = strawberry.field(
        default=None, description="What became of the wish for a cached answer; null without the wish."
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
