"""What a request may call a model: its slug, or one revision of it by alias or digest."""

import re
from dataclasses import dataclass

from raymart_core.errors import InvalidRequest
from raymart_core.wire.manifest import REVISION_DIGEST

ALIAS_CHARACTERS_MAX = 40
ALIAS = re.compile(rf"[a-z][a-z0-9-]{{0,{ALIAS_CHARACTERS_MAX - 1}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model, and which of its revisions is asked for."""

    slug: str
    revision: str | None = None
    """An alias such as "latest", or "sha256:<hex>"; None for what the model serves by default."""


def read_reference(text: str) -> ModelReference:
    """Read "slug", "slug@alias" or "slug@sha256:<hex>". Raises: InvalidRequest."""
    slug, at, revision = text.partition("@")
    if not at:
        return ModelReference(text)
    if ALIAS.fullmatch(revision) is None and REVISION_DIGEST.fullmatch(revision) is None:
        raise InvalidRequest(
            f"{revision[:80]!r} names no revision; after the @ comes an alias such as 'stable' or 'latest', or the "
            "revision's digest as 'sha256:' and 64 hex digits",
            param="model",
        )
    return ModelReference(slug, revision)
