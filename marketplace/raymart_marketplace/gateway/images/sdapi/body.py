"""Bodies of `/sdapi/v1/txt2img` and `/sdapi/v1/img2img`.

As in AUTOMATIC1111, fields that are not known are passed over; what is known and would change the picture, but is not
served, is refused.
Source: https://github.com/AUTOMATIC1111/stable-diffusion-webui, modules/api/models.py and modules/processing.py.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from raymart_core.errors import InvalidRequest
from raymart_core.wire.image import SCHEDULERS, Control, Lora
from raymart_marketplace.gateway.openai_body import decode_body

STEPS = 50
"""AUTOMATIC1111's own default, as its clients expect."""
_LORA = re.compile(r"<lora:([^:<>]{1,200})(?::(-?[0-9.]{1,12}))?(?::[^<>]*)?>")
_SCHEDULERS: Mapping[str, str] = MappingProxyType({name.lower(): name for name in SCHEDULERS})
_PLAIN = frozenset({"", "automatic", "normal", "uniform"})
"""Noise schedules that leave a sampler as it is."""


class OverrideSettings(msgspec.Struct, gc=False):
    """Options for this request alone."""

    sd_model_checkpoint: str | None = None
    sd_vae: str | None = None


class ControlUnit(msgspec.Struct, gc=False):
    """A ControlNet, as the extension of that name is asked for it."""

    enabled: bool = True
    model: str | None = None
    module: str | None = None
    weight: float = 1.0
    image: str | None = None
    input_image: str | None = None
    guidance_start: float = 0.0
    guidance_end: float = 1.0


class ControlScript(msgspec.Struct, gc=False):
    """Arguments of the extension."""

    args: list[ControlUnit] = []


class TextToImage(msgspec.Struct, gc=False):
    """The body of `txt2img`, and what `img2img` has of it."""

    prompt: str = ""
    negative_prompt: str | None = ""
    seed: int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    steps: int = STEPS
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    denoising_strength: float | None = None
    enable_hr: bool | None = False
    script_name: str | None = None
    send_images: bool | None = True
    styles: list[str] | None = None
    override_settings: OverrideSettings | None = None
    alwayson_scripts: dict[str, msgspec.Raw] | None = None


class ImageToImage(TextToImage, gc=False):
    """The body of `img2img`."""

    init_images: list[str] | None = None
    resize_mode: int = 0
    mask: str | None = None
    mask_blur: float | None = 4
    mask_blur_x: float | None = None
    mask_blur_y: float | None = None
    inpainting_mask_invert: int | None = 0
    include_init_images: bool | None = False


_decode_text = msgspec.json.Decoder(TextToImage).decode
_decode_image = msgspec.json.Decoder(ImageToImage).decode
_decode_control = msgspec.json.Decoder(ControlScript).decode


def read_text_to_image(body: bytes) -> TextToImage:
    """Raises: InvalidRequest, also for what is not served."""
    return _checked(decode_body(body, _decode_text, fields=()))


def read_image_to_image(body: bytes) -> ImageToImage:
    """Raises: InvalidRequest, also for what is not served."""
    asked = decode_body(body, _decode_image, fields=())
    _checked(asked)
    if len(asked.init_images or ()) != 1:
        raise InvalidRequest("init_images must have exactly one picture", param="init_images")
    if not 0 <= asked.resize_mode <= 3:
        raise InvalidRequest(f"resize_mode={asked.resize_mode} is none of 0 to 3", param="resize_mode")
    return asked


def read_picture(text: str, *, param: str) -> bytes:
    """A picture in base64, maybe as a data URL. Raises: InvalidRequest."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{param} is no base64", param=param) from None


def read_loras(prompt: str) -> tuple[str, tuple[Lora, ...]]:
    """The prompt without its `<lora:name:weight>`, and those. Raises: InvalidRequest."""
    loras = []
    for name, weight in _LORA.findall(prompt):
        try:
            loras.append(Lora(name=name, weight=float(weight) if weight else 1.0))
        except ValueError:
            raise InvalidRequest(
                f"the weight {weight!r} of LoRA {name!r} is no number", param="prompt"
            ) from None
    return (_LORA.sub("", prompt).strip() if loras else prompt), tuple(loras)


def read_scheduler(asked: TextToImage) -> str | None:
    """The scheduler by our name; None for the revision's own. Raises: InvalidRequest when there is none."""
    name = asked.sampler_name or asked.sampler_index
    if not name:
        return None
    noise = (asked.scheduler or "").lower()
    wanted = name if noise in _PLAIN or name.lower().endswith(f" {noise}") else f"{name} {noise}"
    found = _SCHEDULERS.get(wanted.lower())
    if found is None:
        raise InvalidRequest(
            f"sampler {wanted[:60]!r} is not found; /sdapi/v1/samplers lists those there are",
            param="sampler_name",
        )
    return found


def read_controls(asked: TextToImage) -> tuple[Control, ...]:
    """The ControlNets that are asked for. Raises: InvalidRequest."""
    controls = []
    for script, arguments in (asked.alwayson_scripts or {}).items():
        if script.lower() != "controlnet":
            raise InvalidRequest(f"script {script[:60]!r} is not served", param="alwayson_scripts")
        for unit in decode_body(bytes(arguments), _decode_control, fields=()).args:
            image = unit.image or unit.input_image
            if not unit.enabled:
                continue
            if unit.module not in {None, "none", "None"} or not unit.model or not image:
                raise InvalidRequest(
                    "a ControlNet needs a model and a picture that is prepared already: module is 'none'",
                    param="alwayson_scripts",
                )
            controls.append(
                Control(
                    name=unit.model.partition(" [")[0],
                    image=read_picture(image, param="alwayson_scripts"),
                    weight=unit.weight,
                    start=unit.guidance_start,
                    end=unit.guidance_end,
                )
            )
    return tuple(controls)


def _checked(asked: TextToImage) -> TextToImage:
    for param, is_asked in (
        ("enable_hr", asked.enable_hr),
        ("script_name", asked.script_name),
        ("styles", asked.styles),
    ):
        if is_asked:
            raise InvalidRequest(f"{param} is not served; leave it out", param=param)
    if min(asked.batch_size, asked.n_iter) < 1:
        raise InvalidRequest("batch_size and n_iter are at least 1", param="batch_size")
    return asked
