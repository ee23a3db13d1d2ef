"""The Ray labels of a house pool's machines: what placements select by. Pure."""

import re

from raymart_core.wire.link import Hardware
from raymart_marketplace.supply.membership.models import MemberRole

NODE_LABEL = "raymart.io/node"
HEAD_NAME = "head"
"""The head's `raymart.io/node`; no provider's node may have it."""
NO_GPU = "none"
TIER = "verified"
"""Whom a house pool lets in: providers that the marketplace has looked at."""
_VALUE_CHARACTERS_MAX = 63
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+", re.ASCII)


def ray_labels(
    *, role: MemberRole, name: str, provider: str | None, region: str, hardware: Hardware
) -> dict[str, str]:
    """Labels of a member's Ray node: node, provider, gpu, region, tier, role. The head has no provider and runs no work."""
    if role is not MemberRole.NODE:
        return {NODE_LABEL: HEAD_NAME, "raymart.io/role": role.value, "raymart.io/region": region}
    assert provider is not None
    return {
        NODE_LABEL: name,
        "raymart.io/provider": provider,
        "raymart.io/gpu": gpu_label(hardware),
        "raymart.io/region": region,
        "raymart.io/tier": TIER,
        "raymart.io/role": role.value,
    }


def gpu_label(hardware: Hardware) -> str:
    """The model of the machine's first GPU, such as "NVIDIA-H100-80GB-HBM3"; "none" on a machine without one.

    Source: Ray's label syntax: letters, digits, "-", "_" and "." inside, at most 63 characters.
    """
    if not hardware.gpus:
        return NO_GPU
    fit = _UNFIT.sub("-", hardware.gpus[0].model)[:_VALUE_CHARACTERS_MAX].strip("-_.")
    return fit or "unnamed"
