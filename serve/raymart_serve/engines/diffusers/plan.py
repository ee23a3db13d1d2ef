"""What a request asks of a revision, checked before it waits for its turn."""

from collections.abc import Mapping

from raymart_core.wire.image import ImageRequest
from raymart_serve.engines.diffusers.folder import Folder
from raymart_serve.engines.diffusers.samplers import SAMPLERS
from raymart_serve.engines.protocol import RequestRefused


def steps_run(request: ImageRequest) -> int:
    """Denoising steps of one picture: all of them from nothing, the last `strength` of them from an input picture.

    Source: diffusers `StableDiffusionImg2ImgPipeline.get_timesteps`. Raises: RequestRefused when none would be left.
    """
    if request.image is None:
        return request.steps
    steps = min(int(request.steps * request.strength), request.steps)
    if steps < 1:
        raise RequestRefused(
            f"{request.steps} steps at strength {request.strength:g} leave none to run; raise one of them",
            param="strength",
        )
    return steps


def check_names(request: ImageRequest, folder: Folder) -> None:
    """Refuse a scheduler, LoRA, ControlNet or VAE that is not there. Raises: RequestRefused."""
    if request.scheduler is not None:
        _check("scheduler", request.scheduler, SAMPLERS)
    for lora in request.loras:
        _check("loras", lora.name, folder.loras)
    for control in request.control:
        _check("control", control.name, folder.controlnets)
    if request.vae is not None:
        _check("vae", request.vae, folder.vaes)


def _check(param: str, name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        there = ", ".join(known) or "none"
        raise RequestRefused(f"this model has no {param} {name[:100]!r}; it has {there}", param=param)
