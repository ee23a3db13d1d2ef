"""The OpenAI-shaped REST surface as raw ASGI routes: no middleware, no pydantic, no dependency injection."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from raymart_core.errors import NotFound
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.gateway.chat_route import ChatCompletionsRoute
from raymart_marketplace.gateway.completions.llama_route import LlamaCompletionRoute
from raymart_marketplace.gateway.completions.openai_route import CompletionsRoute
from raymart_marketplace.gateway.endpoint import Answer
from raymart_marketplace.gateway.endpoints_route import EndpointsRoute
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.model_lookup import ModelLookup
from raymart_marketplace.gateway.models_route import ModelsRoute
from raymart_marketplace.supply.live import EndpointDirectory


def gateway_routes(
    *,
    inference: Inference,
    authenticator: Authenticator,
    directory: EndpointDirectory,
    models: ModelLookup,
    body_bytes_max: int,
    more: Sequence[BaseRoute] = (),
) -> Sequence[BaseRoute]:
    """Every route under /v1, and llama.cpp's /completion; put them first in the application. What is not served answers 404 in OpenAI's shape.

    `more` are routes under /v1 that need more than the gateway has.
    """
    chat, completions, llama = (
        route(authenticator, inference=inference, body_bytes_max=body_bytes_max)
        for route in (ChatCompletionsRoute, CompletionsRoute, LlamaCompletionRoute)
    )
    listing = ModelsRoute(authenticator, directory=directory, models=models)
    endpoints = EndpointsRoute(authenticator, directory=directory, models=models)
    # Starlette passes an instance through as a raw ASGI application and lets it check the method itself.
    return [
        Route("/v1/chat/completions", chat, name="chat_completions", include_in_schema=False),
        Route("/v1/completions", completions, name="completions", include_in_schema=False),
        Route("/completion", llama, name="llama_completion", include_in_schema=False),
        Route("/v1/models", listing, name="models", include_in_schema=False),
        Route("/v1/models/{slug:path}/endpoints", endpoints, name="model_endpoints", include_in_schema=False),
        Route("/v1/models/{slug:path}", listing, name="model", include_in_schema=False),
        *more,
        Route("/v1/{rest:path}", _NotServed(), name="not_served", include_in_schema=False),
    ]


class _NotServed:
    """Answers what is not served; no key is needed to be told so."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])[:200]
        await Answer(send).fail(NotFound(f"{path} is not served; GET /v1/models lists what is"))
