"""A loaded revision: pipelines of diffusers over one set of weights. The only module that imports torch.

Everything here blocks and runs in the engine's one working thread: a pipeline keeps its scheduler's and its adapters'
state in itself and cannot make two pictures at once.
"""

import gc
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Literal, TypeVar

import diffusers
import numpy as np
import torch
import transformers
from diffusers.pipelines import stable_diffusion
from PIL import Image
from safetensors.torch import load_file
from transformers.utils import logging as transformers_logging

from raymart_core.wire.image import ImageRequest, Lora
from raymart_serve.engines.diffusers.fit import check_fit
from raymart_serve.engines.diffusers.folder import Family, Folder, variant_of
from raymart_serve.engines.diffusers.pictures import Pictures
from raymart_serve.engines.diffusers.samplers import SAMPLERS, sampler_name
from raymart_serve.engines.protocol import EngineError, EngineFailed, RequestRefused

Task = Literal["text", "image", "inpaint"]
Adapter = TypeVar("Adapter")

_ADAPTERS_KEPT = 8
_CLASSES: Mapping[tuple[Family, Task, bool], str] = {
    ("sd", "text", False): "StableDiffusionPipeline",
    ("sd", "image", False): "StableDiffusionImg2ImgPipeline",
    ("sd", "inpaint", False): "StableDiffusionInpaintPipeline",
    ("sd", "text", True): "StableDiffusionControlNetPipeline",
    ("sd", "image", True): "StableDiffusionControlNetImg2ImgPipeline",
    ("sd", "inpaint", True): "StableDiffusionControlNetInpaintPipeline",
    ("sdxl", "text", False): "StableDiffusionXLPipeline",
    ("sdxl", "image", False): "StableDiffusionXLImg2ImgPipeline",
    ("sdxl", "inpaint", False): "StableDiffusionXLInpaintPipeline",
    ("sdxl", "text", True): "StableDiffusionXLControlNetPipeline",
    ("sdxl", "image", True): "StableDiffusionXLControlNetImg2ImgPipeline",
    ("sdxl", "inpaint", True): "StableDiffusionXLControlNetInpaintPipeline",
}
"""By family, task and whether ControlNets take part."""
_LIBRARIES = {"diffusers": diffusers, "transformers": transformers, "stable_diffusion": stable_diffusion}
"""Where `model_index.json` finds its classes."""
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class DeviceLost(EngineFailed):
    """The accelerator refuses all further work of this process."""


class MemoryTooSmall(EngineFailed):
    """What was asked for does not fit beside the model; less does."""


class Model:
    """One revision in memory."""

    def __init__(self, folder: Folder, *, threads: int, dtype: str | None) -> None:
        """Load the weights. Raises: EngineFailed."""
        self._folder = folder
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._dtype = _DTYPES[dtype or ("float16" if self._device == "cuda" else "float32")]
        _set_up_libraries(threads)
        with _Faults("loading the model", less="serve a smaller one on this machine"):
            for name, (library, class_name) in folder.parts.items():
                check_fit(getattr(_LIBRARIES[library], class_name), folder.path / name)
            cls = getattr(diffusers, _CLASSES[folder.family, "text", False])
            self._base = _loaded(cls, folder.path, dtype=self._dtype).to(self._device)
        self._controlnets = _Shelf(self._load_controlnet)
        self._vaes = _Shelf(self._load_vae)
        self._loras = _Shelf(self._load_lora, drop=self._base.delete_adapters)
        self._lora_set: tuple[Lora, ...] | None = ()
        """What is applied now; None while that is not known."""

    @property
    def native_pixels(self) -> int:
        """Side of the pictures that the model was trained on."""
        return int(self._base.unet.config.sample_size) * int(self._base.vae_scale_factor)

    @property
    def on_accelerator(self) -> bool:
        """Whether a GPU does the work."""
        return self._device != "cpu"

    def sampler(self, request: ImageRequest) -> str:
        """The name of the sampler that `request` is made with."""
        return request.scheduler or sampler_name(
            type(self._base.scheduler).__name__, self._base.scheduler.config
        )

    def make(
        self, request: ImageRequest, pictures: Pictures, *, seed: int, on_step: Callable[[int], None]
    ) -> Image.Image:
        """One picture. `on_step` gets how many denoising steps are done, and may raise to stop the work.

        Raises: EngineFailed, also when memory runs out, after which the model serves on; DeviceLost; RequestRefused
        when the revision's own safety checker withholds the picture.
        """
        with _Faults(f"a picture of {request.width}x{request.height}"), torch.inference_mode():
            task: Task = "text" if pictures.image is None else "image" if pictures.mask is None else "inpaint"
            pipeline = self._pipeline(task, request)
            self._apply_loras(request.loras)
            result = pipeline(
                **_arguments(task, request, pictures),
                # On the CPU whatever computes: a seed gives the same noise on every kind of machine.
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
                callback_on_step_end=_step_end(pipeline.scheduler, on_step),
            )
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            raise RequestRefused("the model's own safety checker withheld the picture", param="prompt")
        return _picture(result.images[0])

    def release(self) -> None:
        """Give up what is not needed to go on: adapters and cached memory."""
        for shelf in (self._controlnets, self._vaes, self._loras):
            shelf.clear()
        self._lora_set = ()
        gc.collect()
        if self.on_accelerator:
            torch.cuda.empty_cache()

    def _pipeline(self, task: Task, request: ImageRequest) -> "diffusers.DiffusionPipeline":
        """A pipeline over the loaded weights with a fresh scheduler; building one costs about a millisecond."""
        cls = getattr(diffusers, _CLASSES[self._folder.family, task, bool(request.control)])
        parts = {
            name: part
            for name, part in self._base.components.items()
            if name in cls._get_signature_keys(cls)[0]
        }
        parts["scheduler"] = self._scheduler(request.scheduler)
        if request.vae is not None:
            parts["vae"] = self._vaes.get(request.vae)
        if request.control:
            parts["controlnet"] = [self._controlnets.get(control.name) for control in request.control]
        pipeline = cls(**parts, **self._options(cls))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _options(self, cls: "type[diffusers.DiffusionPipeline]") -> dict[str, object]:
        """Settings of the revision's pipeline that its siblings take too."""
        known = cls._get_signature_keys(cls)[1]
        return {name: value for name, value in self._base.config.items() if name in known}

    def _scheduler(self, name: str | None) -> "diffusers.SchedulerMixin":
        own = self._base.scheduler
        if name is None:
            return type(own).from_config(own.config)
        sampler = SAMPLERS[name]
        return getattr(diffusers, sampler.class_name).from_config(own.config, **sampler.changes)

    def _apply_loras(self, loras: tuple[Lora, ...]) -> None:
        if loras == self._lora_set:
            return
        self._lora_set = None
        for lora in loras:
            self._loras.get(lora.name)
        if loras:
            self._base.enable_lora()
            self._base.set_adapters([_adapter(lora.name) for lora in loras], [lora.weight for lora in loras])
        else:
            self._base.disable_lora()
        self._lora_set = loras

    def _load_lora(self, name: str) -> str:
        weights = load_file(self._folder.loras[name])
        with warnings.catch_warnings():
            # PEFT wonders about a second adapter, which is what is wanted.
            warnings.simplefilter("ignore", UserWarning)
            self._base.load_lora_weights(weights, adapter_name=_adapter(name))
        if not any(_adapter(name) in adapters for adapters in self._base.get_list_adapters().values()):
            raise EngineFailed(f"LoRA {name!r} of this revision fits none of the model's parts")
        return _adapter(name)

    def _load_controlnet(self, name: str) -> "diffusers.ControlNetModel":
        check_fit(diffusers.ControlNetModel, self._folder.controlnets[name])
        found = _loaded(diffusers.ControlNetModel, self._folder.controlnets[name], dtype=self._dtype)
        return found.to(self._device)

    def _load_vae(self, name: str) -> "diffusers.AutoencoderKL":
        check_fit(diffusers.AutoencoderKL, self._folder.vaes[name])
        found = _loaded(diffusers.AutoencoderKL, self._folder.vaes[name], dtype=self._dtype)
        own = self._base.vae.config
        if (found.config.latent_channels, len(found.config.block_out_channels)) != (
            own.latent_channels,
            len(own.block_out_channels),
        ):
            raise EngineFailed(f"VAE {name!r} of this revision has other latents than the model")
        return found.to(self._device)


class _Shelf(Generic[Adapter]):
    """Adapters loaded when they are first asked for; the one not used for longest goes when there are too many."""

    def __init__(
        self, load: Callable[[str], Adapter], *, drop: Callable[[Adapter], None] | None = None
    ) -> None:
        self._load = load
        self._drop = drop
        self._kept: OrderedDict[str, Adapter] = OrderedDict()

    def get(self, name: str) -> Adapter:
        """The adapter `name`, loaded."""
        if name not in self._kept:
            while len(self._kept) >= _ADAPTERS_KEPT:
                self._let_go()
            self._kept[name] = self._load(name)
        self._kept.move_to_end(name)
        return self._kept[name]

    def clear(self) -> None:
        """Let all go."""
        while self._kept:
            self._let_go()

    def _let_go(self) -> None:
        _, adapter = self._kept.popitem(last=False)
        if self._drop is not None:
            self._drop(adapter)


class _Faults:
    """Turns what torch and diffusers raise into the engine's own errors."""

    def __init__(self, what: str, *, less: str = "ask for a smaller one") -> None:
        self._what = what
        self._less = less

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, EngineError) or not isinstance(error, Exception):
            return
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error):
            # Without the traceback, whose frames keep the tensors alive that did fit.
            error.__traceback__ = None
            raise MemoryTooSmall(
                f"the engine's memory is too small for {self._what}; {self._less}"
            ) from error
        if isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error):
            raise DeviceLost(f"the accelerator failed at {self._what}") from error
        # The library's own words may name paths of this machine; the log has them.
        raise EngineFailed(f"{self._what} failed: {type(error).__name__}") from error


def _set_up_libraries(threads: int) -> None:
    torch.set_num_threads(threads)
    # The fastest kernel is chosen by racing them, and they round differently: a seed would not always give its bytes.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    for logging in (diffusers.utils.logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _loaded(cls: "type[diffusers.ModelMixin]", path: Path, *, dtype: torch.dtype) -> "diffusers.ModelMixin":
    return cls.from_pretrained(
        path,
        dtype=dtype,
        variant=variant_of(path),
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=True,
    )


def _step_end(
    scheduler: "diffusers.SchedulerMixin", on_step: Callable[[int], None]
) -> Callable[..., dict[str, torch.Tensor]]:
    order = int(getattr(scheduler, "order", 1))

    def told(
        _pipeline: object, index: int, _time: object, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        on_step(index // order + 1)
        return tensors

    return told


def _arguments(task: Task, request: ImageRequest, pictures: Pictures) -> dict[str, object]:
    arguments: dict[str, object] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
    }
    if task == "text":
        arguments |= {"width": request.width, "height": request.height}
    else:
        arguments |= {"image": pictures.image, "strength": request.strength}
    if task == "inpaint":
        arguments |= {"mask_image": pictures.mask, "width": request.width, "height": request.height}
    if request.control:
        arguments |= {
            "image" if task == "text" else "control_image": list(pictures.control),
            "controlnet_conditioning_scale": [control.weight for control in request.control],
            "control_guidance_start": [control.start for control in request.control],
            "control_guidance_end": [control.end for control in request.control],
        }
    return arguments


def _picture(values: np.ndarray) -> Image.Image:
    """`values`: [H, W, 3] float, 0 to 1."""
    if not np.isfinite(values).all():
        raise EngineFailed("the picture has numbers that are none: the model overflows in this precision")
    return Image.fromarray((values * 255).round().astype("uint8"))


def _adapter(name: str) -> str:
    """PEFT keeps adapters in a torch ModuleDict, whose names must have no dots."""
    return "lora_" + name.encode().hex()
