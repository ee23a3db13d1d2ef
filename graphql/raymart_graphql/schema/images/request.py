"""From the API's input to the gateway's request. Ranges are checked there, once for every surface."""

import binascii
from base64 import b64decode

from raymart_core.errors import InvalidRequest
from raymart_core.wire.image import Control, Lora, Padding
from raymart_graphql.schema.images.inputs import ImageGenerationInput
from raymart_graphql.schema.inference.request import routing_preference
from raymart_marketplace.gateway.images.request import PictureRequest


def picture_request(given: ImageGenerationInput) -> PictureRequest:
    """`given` as the gateway takes it. Raises: InvalidRequest with the input's field as `param`; PayloadTooLarge."""
    padding = given.outpaint
    return PictureRequest(
        model=given.model,
        prompt=given.prompt,
        negative_prompt=given.negative_prompt,
        width=given.width,
        height=given.height,
        steps=given.steps,
        count=given.count,
        seed=given.seed,
        guidance=given.guidance,
        scheduler=given.scheduler,
        image=_bytes(given.image, param="image"),
        mask=_bytes(given.mask, param="mask"),
        strength=given.strength,
        outpaint=None
        if padding is None
        else Padding(left=padding.left, top=padding.top, right=padding.right, bottom=padding.bottom),
        loras=tuple(Lora(name=lora.name, weight=lora.weight) for lora in given.loras),
        control=tuple(
            Control(
                name=control.name,
                image=_decoded(control.image, param=f"control[{position}].image"),
                weight=control.weight,
                start=control.start,
                end=control.end,
            )
            for position, control in enumerate(given.control)
        ),
        vae=given.vae,
        format=given.format.value,
        routing=routing_preference(given.provider),
    )


def _bytes(text: str | None, *, param: str) -> bytes | None:
    return None if text is None else _decoded(text, param=param)


def _decoded(text: str, *, param: str) -> bytes:
    """Raises: InvalidRequest for what is no base64."""
    # Browsers' canvases give data URLs.
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{param} is no base64; send the file's bytes encoded so", param=param) from None
