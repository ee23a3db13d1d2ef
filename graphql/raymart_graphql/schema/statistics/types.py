"""Figures of endpoints and models."""

from datetime import datetime
from typing import Annotated

import strawberry

from raymart_billing import statistics
from raymart_billing.statistics import Span
from raymart_graphql.enums import expose
from raymart_graphql.scalars import BigInt

expose(
    Span,
    name="StatisticsSpan",
    description="How far back statistics look.",
    values={
        "HALF_HOUR": "30 minutes; made anew every minute.",
        "DAY": "24 hours; made anew every ten minutes.",
    },
)
OfSpan = Annotated[Span, strawberry.argument(description="How far back to look.")]

__all__ = ["OfSpan", "ServiceStatistics", "Span"]


@strawberry.type(description="How well an endpoint or a model served, by the attempts that were recorded.")
class ServiceStatistics:
    """Public. Latencies and rates are within 10 % of the exact percentile."""

    attempts: BigInt = strawberry.field(
        description="Tries of requests; one that moved on counts at each endpoint."
    )
    delivered: BigInt = strawberry.field(description="Those that delivered the whole answer.")
    success_rate: float = strawberry.field(
        description="The share, 0 to 1, of the tries that did not fail by the provider's fault."
    )
    tokens_delivered: BigInt = strawberry.field(description="Tokens that reached customers.")
    first_token_ms_p50: int | None = strawberry.field(
        description="Half of the tries had their first token within so many milliseconds; null without one."
    )
    first_token_ms_p95: int | None = strawberry.field(
        description="95 of 100 had it within so many milliseconds; null without one."
    )
    tokens_per_second_p50: float | None = strawberry.field(
        description="Half of the answers came at this rate or faster, after the first token; null without one."
    )
    tokens_per_second_p95: float | None = strawberry.field(
        description="95 of 100 came at this rate or faster; null without one."
    )
    computed_at: datetime = strawberry.field(description="When this was computed.")

    @classmethod
    def of(cls, row: statistics.ServiceFigures) -> "ServiceStatistics":
        """`row` as the API shows it."""
        return cls(
            attempts=BigInt(row.attempts),
            delivered=BigInt(row.delivered),
            success_rate=round(1 - row.provider_failures / row.attempts, 6),
            tokens_delivered=BigInt(row.tokens),
            first_token_ms_p50=row.first_token_ms_p50,
            first_token_ms_p95=row.first_token_ms_p95,
            tokens_per_second_p50=row.tokens_per_s_p50,
            tokens_per_second_p95=row.tokens_per_s_p95,
            computed_at=row.computed_at,
        )
