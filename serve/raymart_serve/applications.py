"""One placement as one Ray Serve application.

`schema_of` describes it, in the pool controller; `build` makes it, in a task that Serve runs on the pinned node.
"""

from typing import TYPE_CHECKING

import msgspec

from raymart_core.errors import RaymartError
from raymart_core.wire.link import Placement
from raymart_serve.replica.config import ReplicaConfig

if TYPE_CHECKING:
    from ray.serve import Application

NODE_LABEL = "raymart.io/node"
DEPLOYMENT = "Replica"
CPUS_MAX = 1_024
"""CPUs of one replica in Ray's accounting; its threads are bounded by the engine."""
IDLE_S_MAX = 86_400.0
GPUS_MAX = 64
"""GPUs of one replica: all of one machine, and more than any has."""
_SHUTDOWN_MARGIN_S = 5.0
_NAME_PREFIX = "placement-"


class PlacementInvalid(RaymartError):
    """A placement that no application can be made of."""


def application_name(placement_id: str) -> str:
    """The Serve application of a placement."""
    return f"{_NAME_PREFIX}{placement_id}"


def schema_of(placement: Placement) -> dict[str, object]:
    """The application as `ServeDeploySchema` takes it.

    Always in the autoscaling form, also for a fixed size: going from one form to the other would replace running
    replicas, a change of the range does not (facts: seam, section 4).

    Raises: PlacementInvalid.
    """
    if not 0 <= placement.replicas_min <= placement.replicas_max or placement.replicas_max < 1:
        raise PlacementInvalid(
            f"replica range {placement.replicas_min}..{placement.replicas_max} is wrong; "
            "give 0 <= replicas_min <= replicas_max and at least one replica at most"
        )
    if placement.slots < 1 or placement.context_length < 1:
        raise PlacementInvalid(
            f"slots={placement.slots} and context_length={placement.context_length} must be at least 1"
        )
    if not (0 < placement.cpus <= CPUS_MAX and 0 < placement.idle_s <= IDLE_S_MAX):
        raise PlacementInvalid(
            f"cpus={placement.cpus:g} must be above 0 and at most {CPUS_MAX}, idle_s={placement.idle_s:g} above 0 and at "
            f"most {IDLE_S_MAX:g}"
        )
    config = ReplicaConfig(
        model=placement.model,
        revision=placement.revision,
        engine=placement.engine,
        source=placement.source,
        sha256=placement.sha256,
        context_length=placement.context_length,
        slots=placement.slots,
        parameters=placement.parameters,
    )
    return {
        "name": application_name(placement.placement_id),
        "import_path": "raymart_serve.applications:build",
        # None: requests never come through Serve's proxies.
        "route_prefix": None,
        "args": msgspec.to_builtins(config),
        "deployments": [_deployment_options(placement, config)],
    }


def build(args: dict[str, object]) -> "Application":
    """Called by Serve with the schema's `args`."""
    # Ray only where Ray runs: the node agent imports this package without it.
    from ray import serve  # noqa: PLC0415

    from raymart_serve.replica.deployment import ReplicaDeployment  # noqa: PLC0415

    msgspec.convert(args, ReplicaConfig)
    return serve.deployment(name=DEPLOYMENT)(ReplicaDeployment).bind(args)


def _deployment_options(placement: Placement, config: ReplicaConfig) -> dict[str, object]:
    return {
        "name": DEPLOYMENT,
        "autoscaling_config": {
            "min_replicas": placement.replicas_min,
            "max_replicas": placement.replicas_max,
            "metrics_interval_s": 2.0,
            "look_back_period_s": 6.0,
            # Somebody waits for the first replica of a placement that sleeps; a second one is worth a second look.
            "upscale_delay_s": 0.0 if placement.replicas_min == 0 else 4.0,
            "downscale_delay_s": placement.idle_s,
            "downscale_to_zero_delay_s": placement.idle_s,
            "policy": {"policy_function": "raymart_serve.autoscaling:replicas_for_load"},
        },
        "ray_actor_options": {
            "num_cpus": placement.cpus,
            # Without these an actor sees none of the machine's GPUs.
            "num_gpus": _gpus(placement),
            "label_selector": {NODE_LABEL: placement.node},
        },
        # Serve kills what has not gone by then; the replica must have cut off its last stream before.
        "graceful_shutdown_timeout_s": config.drain_timeout_s + _SHUTDOWN_MARGIN_S,
        "graceful_shutdown_wait_loop_s": 0.2,
        "health_check_period_s": 3.0,
        "health_check_timeout_s": 5.0,
        # Handles carry no tokens, only an operator's questions.
        "max_ongoing_requests": 16,
    }


def _gpus(placement: Placement) -> int:
    """How many GPUs one replica takes, by the manifest's parameter `gpus`. Raises: PlacementInvalid."""
    text = placement.parameters.get("gpus", "0")
    if not (text.isascii() and text.isdecimal() and int(text[:4]) <= GPUS_MAX):
        raise PlacementInvalid(f"gpus={text[:20]!r} of the revision must be 0 to {GPUS_MAX}")
    return int(text)
