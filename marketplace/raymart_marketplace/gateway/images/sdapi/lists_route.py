"""What AUTOMATIC1111's clients ask beside pictures: models, samplers, options, how far a job is."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from starlette.types import Receive, Scope

from raymart_core.errors import InvalidRequest
from raymart_core.wire.image import SCHEDULERS
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.body import read_body
from raymart_marketplace.gateway.endpoint import Answer
from raymart_marketplace.gateway.images.sdapi.checkpoints import Checkpoints
from raymart_marketplace.gateway.images.sdapi.endpoint import SdapiEndpoint
from raymart_marketplace.gateway.images.sdapi.jobs import Jobs
from raymart_marketplace.gateway.openai_body import decode_body

OPTIONS_BYTES_MAX = 64 * 1024

_encode = msgspec.json.Encoder().encode

SAMPLERS = [{"name": name, "aliases": [], "options": {}} for name in SCHEDULERS if " Karras" not in name]
NOISE_SCHEDULES = [
    {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
    for name, label in (("automatic", "Automatic"), ("karras", "Karras"))
]
UPSCALERS = [{"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 4}]
FIXED: Mapping[str, object] = {
    "samplers": SAMPLERS,
    "schedulers": NOISE_SCHEDULES,
    "upscalers": UPSCALERS,
    "latent-upscale-modes": [],
    "hypernetworks": [],
    "face-restorers": [],
    "realesrgan-models": [],
    "prompt-styles": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "scripts": {"txt2img": [], "img2img": []},
    "script-info": [],
    "extensions": [],
    "cmd-flags": {},
    "memory": {"ram": {}, "cuda": {}},
}
"""What is the same for everybody."""


class FixedRoute(SdapiEndpoint):
    """A list that never changes; a key is needed all the same."""

    method = "GET"

    def __init__(self, authenticator: Authenticator, content: object) -> None:
        super().__init__(authenticator)
        self._body = _encode(content)

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer with it."""
        await answer.json(self._body)


class _CheckpointsRoute(SdapiEndpoint):
    def __init__(self, authenticator: Authenticator, checkpoints: Checkpoints) -> None:
        super().__init__(authenticator)
        self._checkpoints = checkpoints

    @abstractmethod
    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer an authenticated request."""


class ModelsRoute(_CheckpointsRoute):
    """`/sd-models`."""

    method = "GET"

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """The image models that the key may use."""
        await answer.json(_encode(await self._checkpoints.listed(caller)))


class LorasRoute(_CheckpointsRoute):
    """`/loras`."""

    method = "GET"

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Each name once, with the models that have it: elsewhere AUTOMATIC1111's are for whatever model is loaded."""
        adapters = await self._checkpoints.adapters(caller)
        owners = _owners({slug: each.loras for slug, each in adapters.items()})
        await answer.json(
            _encode(
                [
                    {
                        "name": name,
                        "alias": name,
                        "path": f"loras/{name}.safetensors",
                        "metadata": {"models": models},
                    }
                    for name, models in owners.items()
                ]
            )
        )


class VaesRoute(_CheckpointsRoute):
    """`/sd-vae`."""

    method = "GET"

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Each name once, as `override_settings.sd_vae` takes it."""
        adapters = await self._checkpoints.adapters(caller)
        owners = _owners({slug: each.vaes for slug, each in adapters.items()})
        await answer.json(_encode([{"model_name": name, "filename": f"vaes/{name}"} for name in owners]))


def _owners(names: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Models by the name that they have, both sorted."""
    owners: dict[str, list[str]] = {}
    for slug, each in sorted(names.items()):
        for name in each:
            owners.setdefault(name, []).append(slug)
    return dict(sorted(owners.items()))


class OptionsRoute(_CheckpointsRoute):
    """`/options`: only the model can be chosen; other options are taken and have no effect, as many clients send them."""

    method = "GET"

    async def __call__(self, scope: Scope, receive: Receive, send: "Callable[..., Awaitable[None]]") -> None:
        """GET shows them, POST sets them."""
        if scope["method"] == "POST":
            return await _SetOptions(self._authenticator, self._checkpoints)(scope, receive, send)
        return await super().__call__(scope, receive, send)

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """The options as the key has set them."""
        slug = await self._checkpoints.chosen(caller, None)
        title = self._checkpoints.title(slug)
        await answer.json(
            _encode(
                {
                    "sd_model_checkpoint": title,
                    "sd_checkpoint_hash": title.partition("[")[2].rstrip("]"),
                    "sd_vae": "Automatic",
                    "samples_format": "png",
                    "CLIP_stop_at_last_layers": 1,
                    "eta_noise_seed_delta": 0,
                    "img2img_fix_steps": False,
                }
            )
        )


class _SetOptions(_CheckpointsRoute):
    method = "POST"

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Choose the model. Raises: InvalidRequest, Unavailable."""
        body = await read_body(scope, receive, bytes_max=OPTIONS_BYTES_MAX)
        options = decode_body(body, msgspec.json.Decoder(dict[str, object]).decode, fields=())
        wanted = options.get("sd_model_checkpoint")
        if wanted is not None:
            if not isinstance(wanted, str):
                raise InvalidRequest("sd_model_checkpoint is no text", param="sd_model_checkpoint")
            await self._checkpoints.choose(caller, wanted)
        await answer.json(b"null")


class ProgressRoute(SdapiEndpoint):
    """`/progress`: of the key's oldest job."""

    method = "GET"

    def __init__(self, authenticator: Authenticator, jobs: Jobs) -> None:
        super().__init__(authenticator)
        self._jobs = jobs

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """How far it is; all zero when nothing runs."""
        jobs = self._jobs.of(caller)
        job = jobs[0] if jobs else None
        state: dict[str, object] = {
            "skipped": False,
            "interrupted": job is not None and job.interrupted,
            "stopping_generation": False,
            "job": "" if job is None else "pictures",
            "job_count": len(jobs),
            "job_timestamp": "0" if job is None else f"{job.started_at:%Y%m%d%H%M%S}",
            "job_no": 0,
            "sampling_step": 0 if job is None else job.step,
            "sampling_steps": 0 if job is None else job.of,
        }
        await answer.json(
            _encode(
                {
                    "progress": 0.0 if job is None else job.share,
                    "eta_relative": 0.0 if job is None else job.left_s,
                    "state": state,
                    "current_image": None,
                    "textinfo": None,
                }
            )
        )


class InterruptRoute(SdapiEndpoint):
    """`/interrupt` and `/skip`: the key's jobs end at their next step, and answer without pictures."""

    method = "POST"

    def __init__(self, authenticator: Authenticator, jobs: Jobs) -> None:
        super().__init__(authenticator)
        self._jobs = jobs

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Ask them to."""
        for job in self._jobs.of(caller):
            job.interrupted = True
        await answer.json(b"{}")
