"""One request for pictures through the gateway's pipeline, for the mutation and the subscription alike."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from strawberry.types.nodes import SelectedField, Selection

from raymart_core import clock
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.relay import global_id
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.images.inputs import ImageFormat, ImageGenerationInput
from raymart_graphql.schema.images.request import picture_request
from raymart_graphql.schema.images.types import GeneratedImage, ImageGeneration
from raymart_graphql.schema.inference.caller import caller_of
from raymart_marketplace.gateway.images.events import Picture, PictureEvent, PicturesFinished
from raymart_marketplace.metering.models import Surface


@asynccontextmanager
async def picture_events(
    info: Info, given: ImageGenerationInput
) -> AsyncIterator[AsyncGenerator[PictureEvent, None]]:
    """The events of one request. Leaving the block early means that the client left: the engine stops.

    Pictures, and with them the prompt that is written into them, are kept only for who asks for an address.
    Raises: DomainError before any picture.
    """
    operation = info.context
    request = picture_request(given)
    caller = await caller_of(operation, given.project_id)
    # No transaction is held over the network.
    await operation.reading.aclose()
    events = operation.services.images.run(
        caller, request, surface=Surface.GRAPHQL, streamed=False, keep=_wants_address(info.selected_fields)
    )
    try:
        yield events
    finally:
        await events.aclose()


async def generation_of(
    operation: Operation, pictures: Sequence[Picture], finished: PicturesFinished
) -> ImageGeneration:
    """The pictures as the API shows them, each with its signed URL."""
    return ImageGeneration(
        request_id=global_id(Prefix.REQUEST, finished.request_id),
        model=finished.model,
        images=[await _image(operation, picture) for picture in pictures],
        pixel_steps=BigInt(finished.pixel_steps),
        cost=Money.of(finished.cost),
        attempts=finished.attempts,
        created_at=finished.created_at,
        provider_slug=finished.provider,
    )


def _wants_address(selections: Sequence[Selection]) -> bool:
    return any(
        (isinstance(each, SelectedField) and each.name in {"url", "urlExpiresAt"})
        or _wants_address(each.selections)
        for each in selections
    )


async def _image(operation: Operation, picture: Picture) -> GeneratedImage:
    services = operation.services
    ttl_s = services.settings.images_ttl_s
    url = None if picture.key is None else await services.objects.signed_url(picture.key, expires_s=ttl_s)
    return GeneratedImage(
        index=picture.index,
        seed=BigInt(picture.seed),
        width=picture.width,
        height=picture.height,
        steps=picture.steps,
        format=ImageFormat(picture.format),
        parameters=picture.parameters,
        url=url,
        url_expires_at=None if url is None else clock.now() + timedelta(seconds=ttl_s),
        content=picture.data,
    )
