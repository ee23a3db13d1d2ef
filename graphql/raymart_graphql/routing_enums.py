"""Enums of what customers may ask of those who serve them. Types of the schema import these from here, as from `enums`."""

from raymart_graphql.enums import expose
from raymart_marketplace.supply.breaker import BreakerState
from raymart_marketplace.supply.trust import DataPolicy, Trust

expose(
    Trust,
    name="Trust",
    description="How far the marketplace vouches for a machine; later values are trusted more.",
    values={
        "PROBED": "A provider's own machine, in its own cluster, that passed the benchmark.",
        "VERIFIED": "A verified provider's machine in a house pool.",
    },
)
expose(
    DataPolicy,
    name="DataPolicy",
    description="What a provider says that becomes of prompts and answers.",
    values={
        "UNSTATED": "It promises nothing.",
        "NO_RETENTION": "Nothing is kept once the answer has gone out, and nothing is learnt from it.",
    },
)
expose(
    BreakerState,
    name="BreakerState",
    description="Whether requests go to an endpoint.",
    values={
        "CLOSED": "All do.",
        "OPEN": "It failed a moment ago: none does, unless nothing better is left.",
        "HALF_OPEN": "One at a time does, to see whether it is well again.",
    },
)

__all__ = ["BreakerState", "DataPolicy", "Trust"]
