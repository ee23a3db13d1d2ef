"""How many replicas a placement should have, from what its replicas report.

Serve pickles this module by value into its controller: keep it small and free of state.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

LOAD_TARGET = 0.8
"""Share of its slots that a replica should be using; above it another replica is worth its memory."""


def replicas_for_load(context: "AutoscalingContext") -> tuple[int, dict[str, object]]:
    """The replica count at which each would be at `LOAD_TARGET`; Serve applies range and delays afterwards.

    Each replica reports `load`: its ongoing requests, waiting ones included, divided by its slots. Without a report
    (a replica that has just started) the present count stays.
    """
    loads = (context.aggregated_metrics or {}).get("load") or {}
    if not loads:
        return context.target_num_replicas, {}
    return math.ceil(round(sum(loads.values()) / LOAD_TARGET, 6)), {}
