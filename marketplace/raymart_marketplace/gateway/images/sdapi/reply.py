"""Answers of `txt2img` and `img2img`. Source: modules/processing.py `Processed.js`."""

from collections.abc import Sequence

import msgspec

from raymart_marketplace.gateway.images.events import Picture, PicturesFinished
from raymart_marketplace.gateway.images.request import PictureRequest
from raymart_marketplace.gateway.images.sdapi.body import TextToImage
from raymart_marketplace.gateway.openai_usage import decimal_text

_encode = msgspec.json.Encoder().encode


class Info(msgspec.Struct):
    """How the pictures came about; a JSON text inside the answer."""

    prompt: str
    all_prompts: list[str]
    negative_prompt: str
    all_negative_prompts: list[str]
    seed: int
    all_seeds: list[int]
    subseed: int
    all_subseeds: list[int]
    width: int
    height: int
    sampler_name: str
    cfg_scale: float
    steps: int
    batch_size: int
    sd_model_name: str
    sd_model_hash: str
    denoising_strength: float | None
    infotexts: list[str]
    job_timestamp: str
    raymart: "Sale | None"
    """Who made them and what they cost; None of an interrupted job."""
    subseed_strength: float = 0
    restore_faces: bool = False
    face_restoration_model: str | None = None
    sd_vae_name: str | None = None
    seed_resize_from_w: int = -1
    seed_resize_from_h: int = -1
    extra_generation_params: dict[str, str] = {}
    index_of_first_image: int = 0
    styles: list[str] = []
    clip_skip: int = 1
    is_using_inpainting_conditioning: bool = False
    version: str = "raymart"


class Sale(msgspec.Struct):
    """What AUTOMATIC1111 knows nothing of."""

    request_id: str
    provider: str
    cost: str
    pixel_steps: int


class ImagesAnswer(msgspec.Struct):
    """The whole answer."""

    images: list[bytes]
    """Written in base64, without a text of it in between."""
    parameters: dict[str, object]
    info: str


def answer_body(
    asked: TextToImage,
    request: PictureRequest,
    pictures: Sequence[Picture],
    finished: PicturesFinished | None,
    *,
    request_id: str,
    timestamp: str,
    kept_inputs: bool = False,
) -> bytes:
    """The answer; without `finished` that of a job that was interrupted."""
    parameters = msgspec.to_builtins(asked)
    if not kept_inputs:  # Megabytes that the client has already.
        for name in ("init_images", "mask", "alwayson_scripts"):
            if parameters.get(name):
                parameters[name] = None
    return _encode(
        ImagesAnswer(
            images=[picture.data for picture in pictures] if asked.send_images else [],
            parameters=parameters,
            info=_encode(
                _info(asked, request, pictures, finished, request_id=request_id, timestamp=timestamp)
            ).decode(),
        )
    )


def _info(
    asked: TextToImage,
    request: PictureRequest,
    pictures: Sequence[Picture],
    finished: PicturesFinished | None,
    *,
    request_id: str,
    timestamp: str,
) -> Info:
    count = len(pictures)
    revision = "" if finished is None else finished.revision.removeprefix("sha256:")[:10]
    return Info(
        prompt=asked.prompt,
        all_prompts=[asked.prompt] * count,
        negative_prompt=request.negative_prompt,
        all_negative_prompts=[request.negative_prompt] * count,
        seed=request.seed_of(0),
        all_seeds=[picture.seed for picture in pictures],
        subseed=0,
        all_subseeds=[0] * count,
        width=request.width,
        height=request.height,
        sampler_name=request.scheduler or "",
        cfg_scale=request.guidance,
        steps=request.steps,
        batch_size=request.count,
        sd_model_name=request.model,
        sd_model_hash=revision,
        denoising_strength=request.strength if request.image is not None else None,
        infotexts=[picture.parameters for picture in pictures],
        job_timestamp=timestamp,
        raymart=None if finished is None else _sale(finished, request_id),
    )


def _sale(finished: PicturesFinished, request_id: str) -> Sale:
    return Sale(
        request_id=request_id,
        provider=finished.provider,
        cost=decimal_text(finished.cost),
        pixel_steps=finished.pixel_steps,
    )
