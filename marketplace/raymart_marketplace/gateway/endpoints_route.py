"""`GET /v1/models/{model}/endpoints`: who serves a model at this moment, and how it does; OpenRouter's shape.

Source: https://openrouter.ai/docs/api-reference/list-endpoints-for-a-model. Ours beside it: `region`, `trust`,
`data_policy`, `breaker`, `load` and `live`, whose figures forget within minutes. They are this process's own.
"""

import msgspec
from starlette.types import Receive, Scope

from raymart_core.ids import Prefix, show
from raymart_core.money import Money
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.gateway.endpoint import Answer, Endpoint
from raymart_marketplace.gateway.model_lookup import ModelLookup
from raymart_marketplace.gateway.models_route import Pricing
from raymart_marketplace.gateway.openai_usage import decimal_text
from raymart_marketplace.supply.breaker import BreakerState
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint
from raymart_marketplace.supply.pace import Percentiles
from raymart_marketplace.supply.trust import DataPolicy, Trust

_encode = msgspec.json.Encoder().encode

STATUS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: -1, BreakerState.OPEN: -2}
"""OpenRouter's numbers: 0 is well, below 0 is not."""


class EndpointLive(msgspec.Struct):
    """Means in which an observation counts half as much after a minute; null where nothing is known."""

    first_token_ms: float | None
    inter_token_ms: float | None
    tokens_per_second: float | None
    error_rate: float
    observations: float
    """How many fresh observations of its own they are worth."""


class PercentileFigures(msgspec.Struct):
    """Of 100 answers so many were as good or better."""

    p50: float
    p75: float
    p90: float
    p99: float


class EndpointLoad(msgspec.Struct):
    """Generations at once, and those that run as far as this process knows."""

    capacity: int
    running: int


class EndpointObject(msgspec.Struct):
    """One live endpoint."""

    id: str
    name: str
    provider_name: str
    """The slug that `provider.only` and its kin take."""
    tag: str
    """The same, as OpenRouter has it."""
    quantization: str
    context_length: int
    pricing: Pricing
    status: int
    latency_last_30m: PercentileFigures | None
    """Milliseconds to the first token; null where nothing is known. Within 10 %, and mostly of the last five minutes."""
    throughput_last_30m: PercentileFigures | None
    """Tokens a second; likewise."""
    region: str
    trust: Trust
    data_policy: DataPolicy
    breaker: BreakerState
    load: EndpointLoad
    live: EndpointLive


class ModelEndpoints(msgspec.Struct):
    """The model and who serves it."""

    id: str
    name: str
    created: int
    description: str
    endpoints: list[EndpointObject]
    """By price, the cheapest first."""


class EndpointList(msgspec.Struct):
    """The whole answer."""

    data: ModelEndpoints


class EndpointsRoute(Endpoint):
    """Lists the live endpoints of the model in the path."""

    method = "GET"

    def __init__(
        self, authenticator: Authenticator, *, directory: EndpointDirectory, models: ModelLookup
    ) -> None:
        super().__init__(authenticator)
        self._directory = directory
        self._models = models

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer with the list. Raises: ScopeMissing, ModelNotAllowed, ModelNotFound, Unavailable."""
        caller.require(KeyScope.MODELS_READ)
        slug: str = scope["path_params"]["slug"]
        await self._models.require(slug, organization_id=caller.organization_id)
        caller.require_model(slug)
        model = (await self._models.listed())[slug]
        live = [each for each in self._directory.live(slug) if each.is_for(caller.organization_id)]
        live.sort(key=lambda each: (each.prices.token_prompt + each.prices.token_completion, each.id))
        listed = ModelEndpoints(
            id=slug,
            name=model.name,
            created=int(model.created_at.timestamp()),
            description=model.description,
            endpoints=[_object(each) for each in live],
        )
        await answer.json(_encode(EndpointList(data=listed)))


def _object(endpoint: LiveEndpoint) -> EndpointObject:
    prices = endpoint.prices
    return EndpointObject(
        id=show(Prefix.ENDPOINT, endpoint.id),
        name=f"{endpoint.provider_slug} | {endpoint.model_slug}",
        provider_name=endpoint.provider_slug,
        tag=endpoint.provider_slug,
        quantization=endpoint.quantization,
        context_length=endpoint.context_length,
        pricing=Pricing(
            prompt=decimal_text(Money(prices.token_prompt)),
            completion=decimal_text(Money(prices.token_completion)),
            request=decimal_text(Money(prices.request)),
            input_cache_read=decimal_text(Money(prices.token_cached)),
        ),
        status=STATUS[endpoint.breaker],
        latency_last_30m=_percentiles(endpoint.pace.first_token_ms),
        throughput_last_30m=_percentiles(endpoint.pace.tokens_per_s),
        region=endpoint.region,
        trust=endpoint.trust,
        data_policy=endpoint.data_policy,
        breaker=endpoint.breaker,
        load=EndpointLoad(capacity=endpoint.capacity, running=endpoint.running),
        live=EndpointLive(
            first_token_ms=_rounded(endpoint.first_token_ms),
            inter_token_ms=_rounded(endpoint.inter_token_ms),
            tokens_per_second=_rounded(endpoint.tokens_per_s),
            error_rate=round(endpoint.error_rate, 4),
            observations=round(endpoint.observations, 2),
        ),
    )


def _percentiles(found: Percentiles | None) -> PercentileFigures | None:
    return None if found is None else PercentileFigures(*(round(figure, 3) for figure in found))


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)
