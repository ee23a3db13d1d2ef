"""The names that a generation goes by: the id in an answer's body, and that of its headers."""

import re
from uuid import UUID

from raymart_core.errors import InvalidRequest

_NAME = re.compile(r"(?:[a-z]+[-_])?([0-9a-f]{32})(?:-[0-9]{1,3})?")
"""`req_<hex>` of `x-request-id` and `x-generation-id`; `chatcmpl-<hex>`, `cmpl-<hex>` and their like of bodies."""


def generation_of(name: str) -> UUID:
    """The request that `name` names. Raises: InvalidRequest."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidRequest(
            f"{name[:80]!r} names no generation; send the `id` of an answer, or its x-request-id", param="id"
        )
    return UUID(hex=found[1])
