"""Names of objects: folders of lower-case words, digests and ids, with no way out of the store."""

import re
from uuid import UUID

from raymart_core.errors import NotFound

KEY_CHARACTERS_MAX = 512
IMAGES_PREFIX = "images/"
ARTIFACTS_PREFIX = "artifacts/"

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
}


def checked(key: str) -> str:
    """`key`, when it can name an object: no empty part, none that begins with a dot. Raises: NotFound."""
    if len(key) > KEY_CHARACTERS_MAX or _KEY.fullmatch(key) is None:
        raise NotFound(f"there is no object {key[:80]!r}")
    return key


def image_key(organization_id: UUID, request_id: UUID, index: int, *, suffix: str = ".png") -> str:
    """Where image `index` of a request lies."""
    return f"{IMAGES_PREFIX}{organization_id}/{request_id}/{index}{suffix}"


def artifact_key(sha256: str) -> str:
    """Where the artifact lies whose stored bytes have this digest, 64 hex digits."""
    assert _SHA256.fullmatch(sha256), "no SHA-256 in lower-case hex"
    return f"{ARTIFACTS_PREFIX}{sha256}"


def media_type(key: str) -> str:
    """What an object is, by its name; stores on disk keep nothing else of it."""
    return _MEDIA_TYPES.get(key[key.rfind(".") :] if "." in key else "", "application/octet-stream")
