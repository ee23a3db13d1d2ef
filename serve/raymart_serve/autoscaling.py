"""How many replicas a placement should have: from what its replicas report, and from what is waited for elsewhere.

Replicas tell Serve their load. Work that no replica can tell of (requests for a placement that has none) comes from the
marketplace, by way of the pool controller and the cluster's key-value store: `demand_value` is what it writes there.

Serve pickles this module by value into its controller: keep it small and free of state.
"""

import json
import math
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

LOAD_TARGET = 0.8
"""Share of its slots that a replica should be using; above it another replica is worth its memory."""
DEMAND_NAMESPACE = b"raymart"
DEMAND_KEY = b"demand"
DEMAND_TTL_S = 15.0
"""Demand that nobody repeats for this long is over: its controller, or the controller's link, is gone."""
_READ_EVERY_S = 0.5
"""The policy runs ten times a second for every placement, and a read takes up to a millisecond (facts: seam, 4)."""


def replicas_for_load(context: "AutoscalingContext") -> tuple[int, dict[str, object]]:
    """The replica count for Serve, which applies range and delays afterwards, and what to remember until the next call."""
    now = time.time()
    state = dict(context.policy_state or {})
    if now - float(state.get("read_at", 0.0)) >= _READ_EVERY_S:
        state = {"read_at": now, "demand": demand_of(_read_demand(), str(context.app_name), now=now)}
    loads = (context.aggregated_metrics or {}).get("load") or {}
    count = replica_count(loads.values(), demand=float(state["demand"]), target=context.target_num_replicas)
    return count, state


def replica_count(loads: Collection[float], *, demand: float, target: int) -> int:
    """The count at which each replica would be at `LOAD_TARGET`, and at least what `demand` needs.

    Each replica reports `load`: its ongoing requests, waiting ones included, divided by its slots. Without a report (of
    a replica that has just started) the present `target` stays. `demand` is in replicas.
    """
    needed = math.ceil(round(sum(loads) / LOAD_TARGET, 6)) if loads else target
    return max(needed, math.ceil(round(demand, 6)))


def demand_value(replicas: Mapping[str, float], *, now: float) -> bytes:
    """What the controller keeps under `DEMAND_KEY`: replicas' worth of work by Serve application, from Unix time `now`."""
    return json.dumps({"until": now + DEMAND_TTL_S, "replicas": dict(replicas)}).encode()


def demand_of(value: bytes | None, application: str, *, now: float) -> float:
    """What `value` says of the application; 0 when it says nothing, or is over."""
    if value is None:
        return 0.0
    said = json.loads(value)
    return float(said["replicas"].get(application, 0.0)) if now < said["until"] else 0.0


def _read_demand() -> bytes | None:
    # Only inside the cluster: tests and the controller process use the rest without Ray.
    from ray.experimental.internal_kv import _internal_kv_get  # noqa: PLC0415

    # Serve runs no policy before it has a connection, so this one exists.
    value: bytes | None = _internal_kv_get(DEMAND_KEY, namespace=DEMAND_NAMESPACE)
    return value
