"""`GET /v1/models` and `/v1/models/{model}`: OpenAI's list with OpenRouter's prices per token."""

from collections.abc import Iterable

import msgspec
from starlette.types import Receive, Scope

from raymart_core.money import Money
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.gateway.endpoint import Answer, Endpoint
from raymart_marketplace.gateway.model_lookup import ListedModel, ModelLookup
from raymart_marketplace.gateway.openai_usage import decimal_text
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint

_encode = msgspec.json.Encoder().encode


class Pricing(msgspec.Struct):
    """US dollars per token and per request, as decimal strings: the cheapest of the live endpoints."""

    prompt: str
    completion: str
    request: str
    input_cache_read: str


class ModelObject(msgspec.Struct):
    """One model."""

    id: str
    created: int
    owned_by: str
    name: str
    description: str
    context_length: int
    quantizations: tuple[str, ...]
    pricing: Pricing | None
    """None while nobody serves the model."""
    endpoints: int
    """How many live endpoints serve it."""
    object: str = "model"


class ModelList(msgspec.Struct):
    """OpenAI's list."""

    data: list[ModelObject]
    object: str = "list"


class ModelsRoute(Endpoint):
    """Lists models, or shows the one in the path. A key is needed, as at OpenAI."""

    method = "GET"

    def __init__(
        self, authenticator: Authenticator, *, directory: EndpointDirectory, models: ModelLookup
    ) -> None:
        super().__init__(authenticator)
        self._directory = directory
        self._models = models

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer with the list or the one model. Raises: ScopeMissing, ModelNotAllowed, ModelNotFound, Unavailable."""
        caller.require(KeyScope.MODELS_READ)
        models = await self._models.listed()
        slug: str | None = scope["path_params"].get("slug")
        if slug is None:
            allowed = [
                model
                for model in models.values()
                if caller.may_use(model.slug) and model.is_for(caller.organization_id)
            ]
            await answer.json(_encode(ModelList(data=[self._object(model) for model in allowed])))
            return
        await self._models.require(slug, organization_id=caller.organization_id)
        caller.require_model(slug)
        await answer.json(_encode(self._object(models[slug])))

    def _object(self, model: ListedModel) -> ModelObject:
        live = self._directory.live(model.slug)
        return ModelObject(
            id=model.slug,
            created=int(model.created_at.timestamp()),
            owned_by=model.slug.partition("/")[0],
            name=model.name,
            description=model.description,
            context_length=model.context_length,
            quantizations=model.quantizations,
            pricing=_pricing(live),
            endpoints=len(live),
        )


def _pricing(live: Iterable[LiveEndpoint]) -> Pricing | None:
    cheapest = min(
        (endpoint.prices for endpoint in live),
        key=lambda prices: (prices.token_prompt + prices.token_completion, prices.token_prompt),
        default=None,
    )
    if cheapest is None:
        return None
    return Pricing(
        prompt=decimal_text(Money(cheapest.token_prompt)),
        completion=decimal_text(Money(cheapest.token_completion)),
        request=decimal_text(Money(cheapest.request)),
        input_cache_read=decimal_text(Money(cheapest.token_cached)),
    )
