"""`provider.require_parameters`: what a body's parameters need of whoever serves it.

Some parameters are applied by no engine here and are ignored; some are ignored where a model cannot. Who requires them
is told so, or served only by a revision whose manifest promises them. A response format is not among them: an engine
holds to it or refuses.
"""

from collections.abc import Mapping, Sequence

import msgspec

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.request import Sampling

APPLIED_BY_NONE = (
    "audio", "frequency_penalty", "logit_bias", "min_p", "modalities", "prediction", "presence_penalty",
    "reasoning_effort", "repetition_penalty", "top_a", "top_k", "verbosity", "web_search_options",
)  # fmt: skip
"""Fields that are read and change nothing."""
_NEUTRAL = frozenset({b"null", b"0", b"0.0", b"{}", b"[]", b'["text"]'})
"""Values that ask for nothing."""


def needed_capabilities(body: msgspec.Struct, sampling: Sampling, *, tools: bool) -> Sequence[str]:
    """By the names of manifests. Raises: InvalidRequest for a field that nobody applies."""
    values: Mapping[str, object] = msgspec.structs.asdict(body)
    for name in APPLIED_BY_NONE:
        value = values.get(name, msgspec.UNSET)
        if isinstance(value, msgspec.Raw) and bytes(value) not in _NEUTRAL:
            raise InvalidRequest(
                f"{name} is applied by no endpoint, and provider.require_parameters is true; leave one of them out",
                param=name,
            )
    return capabilities_of(sampling, tools=tools)


def capabilities_of(sampling: Sampling, *, tools: bool) -> Sequence[str]:
    """What a revision must promise for all of it to be applied, by the names of manifests."""
    asked = {
        "tools": tools,
        "logprobs": sampling.top_logprobs is not None,
        "seed": sampling.seed is not None,
        "stop": bool(sampling.stop),
    }
    return [name for name, wanted in asked.items() if wanted]
