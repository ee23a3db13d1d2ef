"""Pictures that were made, and how far those are that are being made."""

from base64 import b64encode
from datetime import datetime

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.images.inputs import ImageFormat
from raymart_graphql.schema.supply.types import Provider
from raymart_graphql.schema.user_error import Payload, UserError


@strawberry.type(description="One picture.")
class GeneratedImage:
    """Kept for a while, if its address is asked for."""

    index: int = strawberry.field(description="Its place in the batch, from 0.")
    seed: BigInt = strawberry.field(description="Its own seed: with it the picture can be made again alone.")
    width: int = strawberry.field(description="In pixels.")
    height: int = strawberry.field(description="In pixels.")
    steps: int = strawberry.field(description="Denoising steps that were run for it.")
    format: ImageFormat = strawberry.field(description="How it is encoded.")
    parameters: str = strawberry.field(
        description="How it was made, as AUTOMATIC1111 writes it into its pictures; also inside the file."
    )
    url: str | None = strawberry.field(
        description="Where it can be fetched by whoever has this address; null when it could not be kept. It is kept only if this is asked for."
    )
    url_expires_at: datetime | None = strawberry.field(description="Until when; null without an address.")
    content: strawberry.Private[bytes]

    @resolved("The file itself in base64. Ask for it only if it is needed: it is large.")
    def base64(self) -> str:
        """Encoded for this answer only."""
        return b64encode(self.content).decode("ascii")


@strawberry.type(description="The pictures of one request, and what they cost.")
class ImageGeneration:
    """All of them came whole."""

    request_id: strawberry.ID = strawberry.field(description="Id of the request; `node` finds it.")
    model: str = strawberry.field(description="Slug of the model that made them.")
    images: list[GeneratedImage] = strawberry.field(description="In the order of their seeds.")
    pixel_steps: BigInt = strawberry.field(
        description="Pixels times steps that are billed; a million are a megapixel-step."
    )
    cost: Money = strawberry.field(description="What it cost.")
    attempts: int = strawberry.field(description="Endpoints that were tried.")
    created_at: datetime = strawberry.field(description="When the request arrived.")
    provider_slug: strawberry.Private[str]

    @resolved("Who served it; null only if the provider was renamed meanwhile.")
    async def provider(self, info: Info) -> Provider | None:
        """The serving provider by slug."""
        return await info.context.loaders.supply.provider_by_slug.load(self.provider_slug)


@strawberry.type(description="What createImage gives back.")
class CreateImagePayload(Payload):
    """The pictures, or why there are none."""

    generation: ImageGeneration | None = strawberry.field(
        default=None, description="Null when there are user errors; then nothing is billed."
    )


@strawberry.type(description="How far pictures are. The last one carries them, or why there are none.")
class ImageGenerationUpdate:
    """Steps that are done, then the result."""

    step: int = strawberry.field(default=0, description="Denoising steps that are done, over all pictures.")
    of: int = strawberry.field(default=0, description="Of how many.")
    generation: ImageGeneration | None = strawberry.field(
        default=None, description="The pictures; only in the last update."
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="Why there are none; only in the last update."
    )
