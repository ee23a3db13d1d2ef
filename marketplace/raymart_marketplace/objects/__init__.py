"""Objects: files that are too large for rows, on local disk or in S3 (`RAYMART_OBJECTS_URL`), behind one interface.

Keys say what an object is (`keys.py`), and an object never changes under its key, so whatever was read of it may be kept.
Who may read one is decided by whoever signs a URL for it; `GET /objects/...` asks for nothing but the signature.
"""

from raymart_marketplace.objects.keys import artifact_key, image_key, media_type
from raymart_marketplace.objects.opening import open_objects
from raymart_marketplace.objects.route import OBJECTS_PREFIX, object_routes
from raymart_marketplace.objects.signing import UrlSigner
from raymart_marketplace.objects.store import Objects, Reading, StoredObject

__all__ = [
    "OBJECTS_PREFIX",
    "Objects",
    "Reading",
    "StoredObject",
    "UrlSigner",
    "artifact_key",
    "image_key",
    "media_type",
    "object_routes",
    "open_objects",
]
