"""What is looked for, and the request whose way is to be explained."""

import re
from dataclasses import replace

import strawberry

from raymart_core.errors import InvalidRequest
from raymart_graphql.routing_enums import DataPolicy, Trust
from raymart_graphql.scalars import BigInt
from raymart_graphql.schema.inference.request import PROVIDERS_MAX, chat_messages, routing_preference
from raymart_graphql.schema.inference.types import ChatMessageInput, ProviderPreferenceInput
from raymart_graphql.schema.pricing.units import UnitPriceInput, parse_prices
from raymart_marketplace.catalog.reference import read_reference
from raymart_marketplace.gateway.quote import needs_of
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.gateway.slug_suffix import without_suffix
from raymart_marketplace.routing.preference import RoutingPreference, Sort
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.routing.search import Wish

TOKENS_MAX = 10_000_000
"""Of a bound: more than any context holds."""
WISHES_MAX = 100
"""Values in one list of a filter."""
CHARACTERS_MAX = 200
SEED = re.compile("[0-9a-f]{16}")


@strawberry.input(description="What an offer must be. What is left out is no wish.")
class OfferFilter:
    """Every condition holds at once."""

    model: str | None = strawberry.field(default=None, description="Slug of the model.")
    max_prices: list[UnitPriceInput] = strawberry.field(
        default_factory=list, description="The most that a unit may cost at this moment."
    )
    regions: list[str] = strawberry.field(
        default_factory=list,
        description="Where it may run: a region or the beginning of one, so that 'eu' takes 'eu-west' too.",
    )
    gpu_model: str | None = strawberry.field(
        default=None, description="A part of a GPU's name, such as 'H200'; case does not matter."
    )
    gpu_memory_bytes_min: BigInt | None = strawberry.field(
        default=None, description="Least memory of one such GPU, in bytes."
    )
    quantizations: list[str] = strawberry.field(
        default_factory=list, description="Number formats of the weights that are acceptable, such as 'q8_0'."
    )
    context_length_min: int = strawberry.field(
        default=1, description="Tokens that prompt and completion together must have room for."
    )
    trust: Trust | None = strawberry.field(default=None, description="Machines trusted so far at least.")
    data_policy: DataPolicy | None = strawberry.field(
        default=None, description="Only providers that say so of what they keep."
    )
    only: list[str] = strawberry.field(default_factory=list, description="No other providers; by slug.")
    ignore: list[str] = strawberry.field(
        default_factory=list, description="None of these providers; by slug."
    )
    live_only: bool = strawberry.field(
        default=True, description="Whether only what can serve at this moment is wanted."
    )

    def wish(self, sort: Sort) -> Wish:
        """As the search takes it. Raises: InvalidRequest naming the field."""
        self._check()
        return Wish(
            preference=RoutingPreference(
                only=tuple(self.only),
                ignore=tuple(self.ignore),
                sort=sort,
                trust=self.trust,
                data_policy=self.data_policy,
            ),
            model_slug=self.model,
            prices_max=parse_prices(self.max_prices, field="filter.max_prices"),
            regions=frozenset(self.regions),
            quantizations=frozenset(self.quantizations),
            context_length_min=self.context_length_min,
            gpu_model=self.gpu_model or "",
            gpu_memory_bytes_min=int(self.gpu_memory_bytes_min or 0),
            live_only=self.live_only,
        )

    def _check(self) -> None:
        lists = {
            "regions": self.regions,
            "quantizations": self.quantizations,
            "only": self.only,
            "ignore": self.ignore,
        }
        for name, values in lists.items():
            if len(values) > WISHES_MAX:
                raise InvalidRequest(
                    f"{len(values)} values; the limit is {WISHES_MAX}", param=f"filter.{name}"
                )
        for name, text in {"model": self.model, "gpu_model": self.gpu_model}.items():
            if len(text or "") > CHARACTERS_MAX:
                raise InvalidRequest(f"at most {CHARACTERS_MAX} characters", param=f"filter.{name}")
        if not 1 <= self.context_length_min <= TOKENS_MAX:
            raise InvalidRequest(
                f"{self.context_length_min} tokens are outside 1 to {TOKENS_MAX}",
                param="filter.context_length_min",
            )


@strawberry.input(description="A request that is not made: its way through the market is explained instead.")
class ExplainRouteInput:
    """Either the conversation itself, or an upper bound of its tokens."""

    model: str = strawberry.field(
        description="Slug of the model, such as 'raymart/demo-chat'; of one revision with '@' and its alias or digest."
    )
    messages: list[ChatMessageInput] | None = strawberry.field(
        default=None, description="The conversation; it is measured and not kept."
    )
    tokens_prompt_max: int | None = strawberry.field(
        default=None, description="Tokens of the prompt at most, in place of the conversation."
    )
    max_tokens: int | None = strawberry.field(
        default=None, description="Most tokens to generate; what the context leaves if not given."
    )
    provider: ProviderPreferenceInput | None = strawberry.field(
        default=None, description="Which providers may serve."
    )

    seed: str | None = strawberry.field(
        default=None,
        description="16 hexadecimal digits of an earlier explanation, to let chance decide as it did.",
    )

    def chance(self) -> int | None:
        """The seed, or None for a new one. Raises: InvalidRequest naming the field."""
        if self.seed is None:
            return None
        if SEED.fullmatch(self.seed) is None:
            raise InvalidRequest(f"{self.seed[:40]!r} is not 16 hexadecimal digits", param="seed")
        return int(self.seed, 16)

    def needs(self) -> Needs:
        """What such a request needs, as the gateway counts it. Raises: InvalidRequest naming the field."""
        if (self.messages is None) == (self.tokens_prompt_max is None):
            raise InvalidRequest("send `messages` or `tokensPromptMax`", param="messages")
        sampling = Sampling(max_tokens=self.max_tokens)
        if self.messages is not None:
            return needs_of(
                ChatRequest(
                    model=self.model,
                    messages=chat_messages(self.messages),
                    sampling=sampling,
                    routing=self.preference(),
                )
            )
        assert self.tokens_prompt_max is not None
        if not 1 <= self.tokens_prompt_max <= TOKENS_MAX:
            raise InvalidRequest(
                f"{self.tokens_prompt_max} tokens are outside 1 to {TOKENS_MAX}", param="tokens_prompt_max"
            )
        reference = read_reference(without_suffix(self.model)[0])
        return Needs(
            model_slug=reference.slug,
            revision=reference.revision,
            tokens_prompt_max=self.tokens_prompt_max,
            tokens_completion_max=self.max_tokens,
            tokens_min=1 + (1 if self.max_tokens is None else self.max_tokens),
        )

    def preference(self) -> RoutingPreference:
        """Its wishes. Raises: InvalidRequest naming the field."""
        wish = routing_preference(self.provider)
        _, sort = without_suffix(self.model)
        return wish if sort is None or wish.sort is not None else replace(wish, sort=sort)


assert PROVIDERS_MAX == WISHES_MAX, "a search allows what a request does"
