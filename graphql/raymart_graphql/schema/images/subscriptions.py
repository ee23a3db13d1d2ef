"""Pictures as they are made."""

from collections.abc import AsyncGenerator

import strawberry

from raymart_core.errors import DomainError
from raymart_graphql.context import Info
from raymart_graphql.fields import subscription
from raymart_graphql.schema.images.inputs import ImageGenerationInput
from raymart_graphql.schema.images.stream import generation_of, picture_events
from raymart_graphql.schema.images.types import ImageGenerationUpdate
from raymart_graphql.schema.user_error import UserError
from raymart_marketplace.gateway.images.events import (
    Picture,
    PictureProgress,
    PicturesBroken,
    PicturesFinished,
)


@strawberry.type
class ImageSubscription:
    """Root fields of the domain."""

    @subscription(
        "Make pictures and follow them step by step; the last update carries them. Closing the subscription "
        "stops the engine at its next step."
    )
    async def image_generation(
        self, info: Info, input_: ImageGenerationInput
    ) -> AsyncGenerator[ImageGenerationUpdate, None]:
        """Through the same pipeline as `/v1/images/generations`."""
        pictures: list[Picture] = []
        step = of = 0
        try:
            async with picture_events(info, input_) as events:
                async for event in events:
                    match event:
                        case PictureProgress():
                            step, of = event.step, event.of
                            yield ImageGenerationUpdate(step=step, of=of)
                        case Picture():
                            pictures.append(event)
                        case PicturesFinished():
                            generation = await generation_of(info.context, pictures, event)
                            yield ImageGenerationUpdate(step=step, of=of, generation=generation)
                        case PicturesBroken():
                            raise event.error
        except DomainError as error:
            yield ImageGenerationUpdate(step=step, of=of, user_errors=[UserError.of(error)])
