"""The REST surfaces of pictures: OpenAI's and AUTOMATIC1111's."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from raymart_core.errors import NotFound
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.gateway.images.inference import ImageInference
from raymart_marketplace.gateway.images.openai_route import EditsRoute, GenerationsRoute
from raymart_marketplace.gateway.images.sdapi.checkpoints import Checkpoints
from raymart_marketplace.gateway.images.sdapi.endpoint import SdapiAnswer
from raymart_marketplace.gateway.images.sdapi.generate_route import ImageToImageRoute, TextToImageRoute
from raymart_marketplace.gateway.images.sdapi.jobs import Jobs
from raymart_marketplace.gateway.images.sdapi.lists_route import (
    FIXED,
    FixedRoute,
    InterruptRoute,
    LorasRoute,
    ModelsRoute,
    OptionsRoute,
    ProgressRoute,
    VaesRoute,
)
from raymart_marketplace.gateway.images.sdapi.options import SdapiOptions
from raymart_marketplace.gateway.model_lookup import ModelLookup
from raymart_marketplace.objects.store import Objects
from raymart_marketplace.shared_state import Redis
from raymart_marketplace.supply.live import EndpointDirectory

SDAPI_PREFIX = "/sdapi/v1"


def openai_image_routes(
    *,
    images: ImageInference,
    authenticator: Authenticator,
    objects: Objects,
    body_bytes_max: int,
    url_ttl_s: float,
) -> Sequence[BaseRoute]:
    """Routes under /v1."""
    generations, edits = (
        route(
            authenticator, images=images, objects=objects, body_bytes_max=body_bytes_max, url_ttl_s=url_ttl_s
        )
        for route in (GenerationsRoute, EditsRoute)
    )
    return [
        Route("/v1/images/generations", generations, name="image_generations", include_in_schema=False),
        Route("/v1/images/edits", edits, name="image_edits", include_in_schema=False),
    ]


def sdapi_routes(
    *,
    images: ImageInference,
    authenticator: Authenticator,
    models: ModelLookup,
    directory: EndpointDirectory,
    redis: Redis,
    body_bytes_max: int,
) -> Sequence[BaseRoute]:
    """Every route under /sdapi/v1; what is not served answers 404."""
    jobs = Jobs()
    checkpoints = Checkpoints(models, directory, SdapiOptions(redis))
    text, image = (
        route(authenticator, images=images, checkpoints=checkpoints, jobs=jobs, body_bytes_max=body_bytes_max)
        for route in (TextToImageRoute, ImageToImageRoute)
    )
    interrupt = InterruptRoute(authenticator, jobs)
    routes: dict[str, ASGIApp] = {
        "txt2img": text,
        "img2img": image,
        "options": OptionsRoute(authenticator, checkpoints),
        "sd-models": ModelsRoute(authenticator, checkpoints),
        "loras": LorasRoute(authenticator, checkpoints),
        "sd-vae": VaesRoute(authenticator, checkpoints),
        "progress": ProgressRoute(authenticator, jobs),
        "interrupt": interrupt,
        "skip": interrupt,
        **{name: FixedRoute(authenticator, content) for name, content in FIXED.items()},
        "{rest:path}": _NotServed(),
    }
    return [
        Route(f"{SDAPI_PREFIX}/{path}", route, name=f"sdapi_{path}", include_in_schema=False)
        for path, route in routes.items()
    ]


class _NotServed:
    """Answers what is not served; no key is needed to be told so."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])[:200]
        await SdapiAnswer(send).fail(NotFound(f"{path} is not served"))
