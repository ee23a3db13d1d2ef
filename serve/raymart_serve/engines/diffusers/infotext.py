"""How a picture was made, in the words of AUTOMATIC1111: what its "PNG Info" reads, and what others learnt to read.

Source: https://github.com/AUTOMATIC1111/stable-diffusion-webui, modules/processing.py `create_infotext` and
modules/infotext_utils.py `quote`.
"""

import json
from dataclasses import dataclass

from raymart_core.wire.image import ImageRequest

_HASH_CHARACTERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """What made the picture."""

    model: str
    """Slug, such as "raymart/demo-image"."""
    revision: str
    """Manifest digest, "sha256:<hex>"."""
    label: str
    """The engine's name and version."""


def infotext(request: ImageRequest, *, seed: int, sampler: str, maker: Maker) -> str:
    """The prompt, the negative prompt if there is one, and one line of everything else that decided the picture."""
    facts: dict[str, object] = {
        "Steps": request.steps,
        "Sampler": sampler,
        "CFG scale": request.guidance,
        "Seed": seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": maker.revision.removeprefix("sha256:")[:_HASH_CHARACTERS],
        "Model": maker.model,
        "VAE": request.vae,
        "Denoising strength": request.strength if request.image is not None else None,
        "Outpaint": _outpaint(request),
        "Lora": ", ".join(f"{lora.name}: {lora.weight:g}" for lora in request.loras) or None,
        **{f"ControlNet {index}": _control(request, index) for index in range(len(request.control))},
        "Version": maker.label,
    }
    line = ", ".join(f"{name}: {_quoted(value)}" for name, value in facts.items() if value not in {None, ""})
    negative = f"Negative prompt: {request.negative_prompt}\n" if request.negative_prompt else ""
    return f"{request.prompt}\n{negative}{line}"


def _outpaint(request: ImageRequest) -> str | None:
    padding = request.outpaint
    if padding is None:
        return None
    return f"left {padding.left} top {padding.top} right {padding.right} bottom {padding.bottom}"


def _control(request: ImageRequest, index: int) -> str:
    control = request.control[index]
    return f"Model: {control.name}, Weight: {control.weight:g}, Guidance Start: {control.start:g}, Guidance End: {control.end:g}"


def _quoted(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if {",", "\n", ":"} & set(text) else text
