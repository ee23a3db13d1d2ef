"""What pictures are asked for with. Ranges are checked by the gateway, once for every surface."""

from enum import StrEnum

import strawberry

from raymart_graphql.enums import expose
from raymart_graphql.scalars import BigInt
from raymart_graphql.schema.inference.types import ProviderPreferenceInput

SIDE_PIXELS = 512
STEPS = 20
GUIDANCE = 7.0
STRENGTH = 0.75


class ImageFormat(StrEnum):
    """How a picture is encoded; the value is the wire's name."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


expose(
    ImageFormat,
    name="ImageFormat",
    description="How a picture is encoded.",
    values={
        "PNG": "Without loss; carries how it was made as a text chunk.",
        "JPEG": "With loss, small.",
        "WEBP": "With loss, smaller.",
    },
)


@strawberry.input(description="Pixels by which outpainting widens a picture; what is added is painted.")
class PaddingInput:
    """On each side."""

    left: int = strawberry.field(default=0, description="On the left.")
    top: int = strawberry.field(default=0, description="Above.")
    right: int = strawberry.field(default=0, description="On the right.")
    bottom: int = strawberry.field(default=0, description="Below.")


@strawberry.input(description="A LoRA of the model's revision.")
class LoraInput:
    """An adapter to the weights."""

    name: str = strawberry.field(description="Its name.")
    weight: float = strawberry.field(default=1.0, description="How strongly it is applied, -4 to 4.")


@strawberry.input(description="A ControlNet of the model's revision with the picture that steers it.")
class ControlInput:
    """Conditioning by a picture."""

    name: str = strawberry.field(description="Its name.")
    image: str = strawberry.field(description="The picture in base64: PNG, JPEG or WebP.")
    weight: float = strawberry.field(default=1.0, description="How strongly it steers.")
    start: float = strawberry.field(
        default=0.0, description="From which part of the steps on it steers, 0 to 1."
    )
    end: float = strawberry.field(default=1.0, description="Up to which part of the steps, 0 to 1.")


@strawberry.input(description="Pictures to make and to follow while they are made.")
class ImageGenerationInput:
    """Input of the subscription; the mutation's has the same fields."""

    project_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Project that pays; without it, the key's project or the viewer's own default one.",
    )
    model: str = strawberry.field(description="Slug of the model, such as 'raymart/demo-image'.")
    prompt: str = strawberry.field(description="What is to be seen.")
    negative_prompt: str = strawberry.field(default="", description="What is not.")
    width: int = strawberry.field(
        default=SIDE_PIXELS, description="Of the result in pixels, a multiple of 8; at most 2,048."
    )
    height: int = strawberry.field(
        default=SIDE_PIXELS, description="Of the result in pixels, a multiple of 8; at most 2,048."
    )
    steps: int = strawberry.field(default=STEPS, description="Denoising steps, 1 to 150.")
    count: int = strawberry.field(default=1, description="How many pictures, 1 to 8.")
    seed: BigInt | None = strawberry.field(
        default=None,
        description="0 to 4294967295, of the first picture; each further one has the next. Chosen at random if not "
        "given. The same seed, input and revision give the same picture.",
    )
    guidance: float = strawberry.field(
        default=GUIDANCE, description="How closely the prompt is followed, 0 to 30."
    )
    scheduler: str | None = strawberry.field(
        default=None, description="Sampler by its name, such as 'Euler a'; the model's own if not given."
    )
    image: str | None = strawberry.field(
        default=None, description="A picture to start from, in base64: PNG, JPEG or WebP."
    )
    mask: str | None = strawberry.field(
        default=None,
        description="A picture as large as `image`, in base64: its white is repainted, its black kept.",
    )
    strength: float = strawberry.field(
        default=STRENGTH, description="How much of `image` is given up, above 0, at most 1."
    )
    outpaint: PaddingInput | None = strawberry.field(
        default=None, description="Widen `image` by this; width and height are then those of the result."
    )
    loras: list[LoraInput] = strawberry.field(default_factory=list, description="Adapters to apply.")
    control: list[ControlInput] = strawberry.field(default_factory=list, description="Pictures that steer.")
    vae: str | None = strawberry.field(default=None, description="Another VAE of the revision, by its name.")
    format: ImageFormat = strawberry.field(
        default=ImageFormat.PNG, description="How the pictures are encoded."
    )
    provider: ProviderPreferenceInput | None = strawberry.field(
        default=None, description="Which providers may serve."
    )


@strawberry.input(description="Pictures to make.")
class CreateImageInput(ImageGenerationInput):
    """Input of the mutation."""
