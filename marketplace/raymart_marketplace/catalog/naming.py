"""Slugs of models, and the aliases that the marketplace itself moves or looks at."""

import re

SLUG_CHARACTERS_MAX = 100
LATEST = "latest"
"""Names the revision that was published last, unless people pointed it elsewhere since."""
STABLE = "stable"
"""Names what people said is good: what requests that name no revision are served by."""
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*", re.ASCII)


def is_slug(text: str) -> bool:
    """Whether `text` could be a model's slug; what could not is not looked up (it may hold a NUL)."""
    return len(text) <= SLUG_CHARACTERS_MAX and _SLUG.fullmatch(text) is not None
