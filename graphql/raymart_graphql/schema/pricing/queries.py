"""Caps and fees, for administrators; and what a request could cost, for everybody."""

from typing import Annotated

import strawberry

from raymart_core.errors import InvalidRequest
from raymart_core.ports import Quantities
from raymart_core.wire.image import IMAGE_PIXELS_MAX, IMAGE_STEPS_MAX, IMAGES_MAX
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.scalars import BigInt
from raymart_graphql.schema.pricing.quotes import RequestQuote
from raymart_graphql.schema.pricing.types import FeeSchedule, PriceCap
from raymart_marketplace.pricing import models

TOKENS_MAX = 10_000_000
"""Of a quote: more than any context holds."""
PIXEL_STEPS_MAX = IMAGE_PIXELS_MAX * IMAGE_STEPS_MAX * IMAGES_MAX
"""Of a quote: the largest request that the gateway takes."""
NO_PIXEL_STEPS = BigInt(0)
PRICE_CAPS = Listing(
    name="price_caps", entity=models.PriceCap, key=models.PriceCap.id, show=PriceCap.of, newest_first=True
)
FEE_SCHEDULES = Listing(
    name="fee_schedules",
    entity=models.FeeSchedule,
    key=models.FeeSchedule.id,
    show=FeeSchedule.of,
    newest_first=True,
)


@strawberry.type
class PricingQuery:
    """Root fields of the domain."""

    @listed("Every price cap that there was, is or will be, newest first. For administrators.")
    async def price_caps(self, info: Info, page: Page) -> Connection[PriceCap]:
        """By id."""
        async with info.context.reading.session() as session:
            return await page_of(session, PRICE_CAPS, page)

    @listed("Every fee schedule that there was, is or will be, newest first. For administrators.")
    async def fee_schedules(self, info: Info, page: Page) -> Connection[FeeSchedule]:
        """By id."""
        async with info.context.reading.session() as session:
            return await page_of(session, FEE_SCHEDULES, page)

    @resolved("The most that a request can cost on each endpoint of a model at this moment.")
    async def quote_request(
        self,
        model: Annotated[str, strawberry.argument(description="Such as 'raymart/demo-chat'.")],
        tokens_prompt_max: Annotated[
            int, strawberry.argument(description="Tokens of the prompt at most.")
        ] = 0,
        tokens_completion_max: Annotated[
            int, strawberry.argument(description="Generated tokens at most: `max_tokens`.")
        ] = 0,
        pixel_steps_max: Annotated[
            BigInt,
            strawberry.argument(description="Of pictures: width x height x steps x count at most."),
        ] = NO_PIXEL_STEPS,
    ) -> RequestQuote:
        """For the bounds of a request."""
        bounds = {"tokens_prompt_max": tokens_prompt_max, "tokens_completion_max": tokens_completion_max}
        for param, tokens in bounds.items():
            if not 0 <= tokens <= TOKENS_MAX:
                raise InvalidRequest(f"{tokens} tokens are outside 0 to {TOKENS_MAX}", param=param)
        if not 0 <= pixel_steps_max <= PIXEL_STEPS_MAX:
            raise InvalidRequest(
                f"{pixel_steps_max} pixel-steps are outside 0 to {PIXEL_STEPS_MAX}", param="pixel_steps_max"
            )
        quantities = Quantities(
            token_prompt=tokens_prompt_max,
            token_completion=tokens_completion_max,
            image_megapixel_step=pixel_steps_max,
            request=1,
        )
        return RequestQuote(model_slug=model, bounds=quantities)
