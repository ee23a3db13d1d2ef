"""What a replica asks of its node agent's model cache: JSON over loopback, answered at once, asked again while it fetches."""

from typing import Literal

import msgspec

OPEN_PATH = "/v1/models/open"
DAMAGED_PATH = "/v1/models/damaged"


class OpenModel(msgspec.Struct, frozen=True):
    """Have this revision ready to be loaded."""

    revision: str
    """"sha256:<hex>"."""


class StreamSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place that has an artifact."""

    kind: Literal["peer", "origin"]
    url: str
    token: str = ""


class StreamFile(msgspec.Struct, frozen=True):
    """One file of a revision, for a replica to fetch by itself."""

    path: str
    """In the manifest."""
    stored_sha256: str
    stored_size: int
    sources: tuple[StreamSource, ...]


class ModelState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the revision stands. Ask again while it is "fetching".

    "stream": the cache does not take it; the replica is to fetch it into a folder in memory, without a copy on disk.
    """

    state: Literal["fetching", "ready", "stream", "failed"]
    percent: int = 0
    """Of the bytes that were missing."""
    reason: str = ""
    """Why it failed, or what it waits for."""
    root: str = ""
    """The revision's folder in the cache, when ready."""
    private: str = ""
    """Where a replica may make its own folder for what it unseals or streams."""
    data_keys: dict[str, bytes] = {}
    """By path in the manifest, for its sealed files. For memory only."""
    manifest: bytes = b""
    """Canonical, when it is to be streamed."""
    files: tuple[StreamFile, ...] = ()
    """In the manifest's order, when it is to be streamed."""


class DamagedArtifact(msgspec.Struct, frozen=True):
    """What the cache holds is not what the manifest says; it must be fetched again."""

    revision: str
    path: str
    """In the manifest."""
