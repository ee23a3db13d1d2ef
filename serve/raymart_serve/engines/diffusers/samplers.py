"""Samplers by the names that people know from AUTOMATIC1111, as schedulers of diffusers.

Source: https://huggingface.co/docs/diffusers/api/schedulers/overview, "Schedulers from k-diffusion". Those that need
SciPy or torchsde (LMS, DPM++ SDE of k-diffusion) are left out; "DPM++ SDE" is diffusers' single-step solver.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raymart_core.wire.image import SCHEDULERS


@dataclass(frozen=True, slots=True)
class Sampler:
    """A scheduler class of diffusers and what is changed in the revision's own configuration for it."""

    class_name: str
    changes: Mapping[str, object] = field(default_factory=dict)


_KARRAS = {"use_karras_sigmas": True}
_SDE = {"algorithm_type": "sde-dpmsolver++"}

SAMPLERS: Mapping[str, Sampler] = {
    "DDIM": Sampler("DDIMScheduler"),
    "DDPM": Sampler("DDPMScheduler"),
    "DEIS": Sampler("DEISMultistepScheduler"),
    "DPM++ 2M": Sampler("DPMSolverMultistepScheduler"),
    "DPM++ 2M Karras": Sampler("DPMSolverMultistepScheduler", _KARRAS),
    "DPM++ 2M SDE": Sampler("DPMSolverMultistepScheduler", _SDE),
    "DPM++ 2M SDE Karras": Sampler("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "DPM++ SDE": Sampler("DPMSolverSinglestepScheduler", _SDE),
    "DPM++ SDE Karras": Sampler("DPMSolverSinglestepScheduler", {**_SDE, **_KARRAS}),
    "DPM2": Sampler("KDPM2DiscreteScheduler"),
    "DPM2 Karras": Sampler("KDPM2DiscreteScheduler", _KARRAS),
    "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler"),
    "DPM2 a Karras": Sampler("KDPM2AncestralDiscreteScheduler", _KARRAS),
    "Euler": Sampler("EulerDiscreteScheduler"),
    "Euler Karras": Sampler("EulerDiscreteScheduler", _KARRAS),
    "Euler a": Sampler("EulerAncestralDiscreteScheduler"),
    "Heun": Sampler("HeunDiscreteScheduler"),
    "LCM": Sampler("LCMScheduler"),
    "PLMS": Sampler("PNDMScheduler", {"skip_prk_steps": True}),
    "UniPC": Sampler("UniPCMultistepScheduler"),
}

assert tuple(SAMPLERS) == SCHEDULERS


def sampler_name(class_name: str) -> str:
    """What people call the scheduler `class_name` without changes; the class itself where it has no such name."""
    plain = (name for name, sampler in SAMPLERS.items() if sampler == Sampler(class_name))
    return next(plain, class_name.removesuffix("Scheduler"))
