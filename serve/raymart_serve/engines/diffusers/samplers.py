"""Samplers by the names that people know from AUTOMATIC1111, as schedulers of diffusers.

Source: https://huggingface.co/docs/diffusers/api/schedulers/overview, "Schedulers from k-diffusion". Those that need
SciPy or torchsde (LMS, DPM++ SDE of k-diffusion) are left out; "DPM++ SDE" is diffusers' single-step solver.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sampler:
    """A scheduler class of diffusers and what is changed in the revision's own configuration for it."""

    class_name: str
    changes: Mapping[str, object] = field(default_factory=dict)


# Each says what it is and what it is not: the revision's own configuration is changed, and may have either set.
_EVEN = {"use_karras_sigmas": False}
_KARRAS = {"use_karras_sigmas": True}
_ODE = {"algorithm_type": "dpmsolver++"}
_SDE = {"algorithm_type": "sde-dpmsolver++"}

SAMPLERS: Mapping[str, Sampler] = {
    "DDIM": Sampler("DDIMScheduler"),
    "DDPM": Sampler("DDPMScheduler"),
    "DEIS": Sampler("DEISMultistepScheduler", {"algorithm_type": "deis", **_EVEN}),
    "DPM++ 2M": Sampler("DPMSolverMultistepScheduler", {**_ODE, **_EVEN}),
    "DPM++ 2M Karras": Sampler("DPMSolverMultistepScheduler", {**_ODE, **_KARRAS}),
    "DPM++ 2M SDE": Sampler("DPMSolverMultistepScheduler", {**_SDE, **_EVEN}),
    "DPM++ 2M SDE Karras": Sampler("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "DPM++ SDE": Sampler("DPMSolverSinglestepScheduler", {**_SDE, **_EVEN}),
    "DPM++ SDE Karras": Sampler("DPMSolverSinglestepScheduler", {**_SDE, **_KARRAS}),
    "DPM2": Sampler("KDPM2DiscreteScheduler", _EVEN),
    "DPM2 Karras": Sampler("KDPM2DiscreteScheduler", _KARRAS),
    "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler", _EVEN),
    "DPM2 a Karras": Sampler("KDPM2AncestralDiscreteScheduler", _KARRAS),
    "Euler": Sampler("EulerDiscreteScheduler", _EVEN),
    "Euler Karras": Sampler("EulerDiscreteScheduler", _KARRAS),
    "Euler a": Sampler("EulerAncestralDiscreteScheduler"),
    "Heun": Sampler("HeunDiscreteScheduler", _EVEN),
    "LCM": Sampler("LCMScheduler"),
    "PLMS": Sampler("PNDMScheduler", {"skip_prk_steps": True}),
    "UniPC": Sampler("UniPCMultistepScheduler", _EVEN),
}


def sampler_name(class_name: str, config: Mapping[str, object]) -> str:
    """What people call the scheduler `class_name` configured so; the class itself where it has no such name."""
    fitting = (
        name
        for name, sampler in SAMPLERS.items()
        if sampler.class_name == class_name
        and all(config.get(key) == value for key, value in sampler.changes.items())
    )
    return next(fitting, class_name.removesuffix("Scheduler"))
