"""Names that people choose, and the slugs made of them."""

import re
import secrets
import unicodedata

from raymart_core.errors import InvalidRequest

NAME_CHARACTERS_MAX = 100
SLUG_CHARACTERS_MAX = 40


def clean_name(text: str, *, param: str) -> str:
    """`text` without surrounding blanks. Raises: InvalidRequest when it is empty, long or has control characters."""
    name = text.strip()
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        raise InvalidRequest(
            f"{param} has {len(name)} characters; use 1 to {NAME_CHARACTERS_MAX}", param=param
        )
    # Control characters and lone surrogates; PostgreSQL stores neither NUL nor the latter.
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise InvalidRequest(f"{param} has characters that cannot be printed", param=param)
    return name


def unique_slug(name: str) -> str:
    """A slug that begins like `name` and ends in 32 random bits; a clash is refused by the table's constraint."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:SLUG_CHARACTERS_MAX].strip("-")
    return f"{readable or 'organization'}-{secrets.token_hex(4)}"
