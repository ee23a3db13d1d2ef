"""The source that a text names."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from raymart_core.errors import InvalidRequest
from raymart_marketplace.catalog.importing.bucket import BucketSource
from raymart_marketplace.catalog.importing.hub import HubSource, is_hub_id
from raymart_marketplace.catalog.importing.sources import FolderSource, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """How sources are reached."""

    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = None
    s3_secret_access_key: str | None = field(default=None, repr=False)


def open_source(text: str, settings: SourceSettings) -> Source:
    """`hf:owner/name[@revision]`, `s3://bucket/prefix`, a folder or a file of this machine.

    What looks like `owner/name` and is no folder here is a Hugging Face id; `HF_ENDPOINT` and `HF_TOKEN` count.
    Raises: InvalidRequest.
    """
    if text.startswith("s3://"):
        parts = urlsplit(text)
        if not parts.netloc:
            raise InvalidRequest(f"{text[:200]!r} names no bucket; write s3://bucket/prefix", param="source")
        return BucketSource(
            parts.netloc,
            parts.path.strip("/"),
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key,
        )
    if text.startswith("hf:"):
        return HubSource(text.removeprefix("hf:"))
    path = Path(text).expanduser()
    if not path.exists() and is_hub_id(text):
        return HubSource(text)
    return FolderSource(path)
