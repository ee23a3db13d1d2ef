"""OpenRouter's suffixes of a model's name: a short way to say how providers are chosen.

Source: https://openrouter.ai/docs/features/provider-routing, ":nitro" and ":floor".
"""

from collections.abc import Mapping
from types import MappingProxyType

from raymart_marketplace.routing.preference import Sort

SORTS: Mapping[str, Sort] = MappingProxyType({"floor": Sort.PRICE, "nitro": Sort.THROUGHPUT})
"""What each suffix means; `provider.sort` counts where both are given."""


def without_suffix(model: str) -> tuple[str, Sort | None]:
    """The name without its suffix, and what that asks for: "a/b:floor@stable" is "a/b@stable" by price.

    A suffix that is not known stays where it is; then there is no such model.
    """
    if ":" not in model:
        return model, None
    slug, at, revision = model.partition("@")
    name, _, suffix = slug.rpartition(":")
    sort = SORTS.get(suffix)
    return (model, None) if sort is None else (f"{name}{at}{revision}", sort)
