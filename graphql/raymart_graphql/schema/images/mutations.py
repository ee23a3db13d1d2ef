"""Pictures in one answer."""

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.schema.images.inputs import CreateImageInput
from raymart_graphql.schema.images.stream import generation_of, picture_events
from raymart_graphql.schema.images.types import CreateImagePayload
from raymart_marketplace.gateway.images.events import Picture, PicturesBroken, PicturesFinished


@strawberry.type
class ImageMutation:
    """Root fields of the domain."""

    @mutation(
        "Make pictures and wait for all of them: from a prompt, from a picture, inside a mask, or around a picture. "
        "They cost their megapixel-steps; a failure costs nothing."
    )
    async def create_image(self, info: Info, input_: CreateImageInput) -> CreateImagePayload:
        """Through the same pipeline as `/v1/images/generations`."""
        async with picture_events(info, input_) as events:
            seen = [event async for event in events]
        last = seen[-1]
        if isinstance(last, PicturesBroken):
            raise last.error
        assert isinstance(last, PicturesFinished)
        pictures = [event for event in seen if isinstance(event, Picture)]
        return CreateImagePayload(generation=await generation_of(info.context, pictures, last))
