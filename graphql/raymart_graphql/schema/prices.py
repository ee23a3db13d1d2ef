"""Prices of tokens, as they are offered and as they were billed."""

import strawberry

from raymart_core.ports import Prices
from raymart_graphql.scalars import Money

MILLION = 1_000_000


@strawberry.type(description="What tokens cost.")
class TokenPrices:
    """Prices per token and, for people, per million tokens."""

    prompt: Money = strawberry.field(description="Of one prompt token.")
    completion: Money = strawberry.field(description="Of one generated token.")
    prompt_per_million: Money = strawberry.field(description="Of a million prompt tokens.")
    completion_per_million: Money = strawberry.field(description="Of a million generated tokens.")

    @classmethod
    def of(cls, prices: Prices) -> "TokenPrices":
        """`prices` as the API shows them."""
        return cls.of_nano_usd(prompt=prices.token_prompt, completion=prices.token_completion)

    @classmethod
    def of_nano_usd(cls, *, prompt: int, completion: int) -> "TokenPrices":
        """Columns of nano-USD per token as the API shows them."""
        return cls(
            prompt=Money.of_nano_usd(prompt),
            completion=Money.of_nano_usd(completion),
            prompt_per_million=Money.of_nano_usd(prompt * MILLION),
            completion_per_million=Money.of_nano_usd(completion * MILLION),
        )
