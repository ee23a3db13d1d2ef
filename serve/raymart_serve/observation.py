"""What is true of a placement, from what Serve and Ray say. Pure."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from raymart_core.wire.link import Observed, Placement
from raymart_serve.applications import NODE_LABEL

_REASON_LENGTH_MAX = 400
SLEEPING = "scaled to zero"
"""Why a running placement has no replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeApplication:
    """An application as Serve reports it."""

    status: str
    """Serve's `ApplicationStatus`: NOT_STARTED, DEPLOYING, DEPLOY_FAILED, RUNNING, UNHEALTHY or DELETING."""
    message: str
    replicas_running: int
    replicas_total: int
    """Replicas in any state, stopping ones included."""
    replicas_starting: int = 0
    """Replicas that load."""
    replicas: Mapping[str, str] = field(default_factory=dict)
    """State of each replica, by Serve's id of it."""
    target: int = 0
    """How many replicas Serve wants now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSurvey:
    """What is there besides placements."""

    ray_nodes: tuple[str, ...] = ()
    """Names (label `raymart.io/node`) of the live Ray nodes, sorted."""
    unknown: tuple[str, ...] = ()
    """Applications of Serve that are no placement, sorted; they live until the next change removes them."""


def observed_placement(
    placement: Placement, application: ServeApplication | None, *, live_nodes: AbstractSet[str]
) -> Observed:
    """State and reason of an applied placement. `live_nodes` are the `raymart.io/node` labels of live Ray nodes."""
    replicas = application.replicas_running if application else 0
    state, reason = _state(placement, application, live_nodes)
    return Observed(
        placement_id=placement.placement_id,
        state=state,
        replicas=replicas,
        reason=reason,
        starting=application.replicas_starting if application else 0,
    )


def observed_removal(placement_id: str, application: ServeApplication | None) -> Observed:
    """State of a placement that was taken away: gone; "draining" while Serve still has its application."""
    if application is None:
        return Observed(placement_id=placement_id, state="gone", replicas=0)
    replicas = application.replicas_total
    return Observed(placement_id=placement_id, state="gone", replicas=replicas, reason="draining")


def last_line(message: str) -> str:
    """The last line of Serve's message, cut to a few hundred characters: what comes before is a traceback."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1][:_REASON_LENGTH_MAX] if lines else ""


def _state(
    placement: Placement, application: ServeApplication | None, live_nodes: AbstractSet[str]
) -> tuple[Literal["placing", "running", "failed"], str]:
    if application is not None and application.replicas_running:
        return "running", last_line(application.message)
    if placement.node not in live_nodes:
        # Serve waits for such a node for ever and says nothing.
        known = ", ".join(sorted(live_nodes)) or "none"
        return "placing", (
            f"no live node has the label {NODE_LABEL}={placement.node!r} (live: {known}); "
            "start Ray with that label on the machine"
        )
    if application is None:
        return "placing", "applied just now"
    if application.status in {"DEPLOY_FAILED", "UNHEALTHY"}:
        return "failed", last_line(application.message)
    if application.status == "RUNNING" and placement.replicas_min == 0:
        return "running", SLEEPING if application.replicas_starting == 0 else "wakes"
    return "placing", last_line(application.message)
