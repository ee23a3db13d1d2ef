"""What a request for pictures tells its caller: `PicturesStarted` where it is streamed, `PictureProgress` and `Picture`s, then `PicturesFinished` or
`PicturesBroken`.

A failure before any picture was handed out is raised as a `DomainError` instead.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from raymart_core.errors import DomainError
from raymart_core.money import Money
from raymart_core.wire.image import ImageFormat


class PicturesStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The first of an endpoint is here; comes anew when another takes over, and only where pictures are streamed."""

    request_id: UUID
    model: str
    """Slug of the model that serves."""
    provider: str
    """Slug of the provider that serves."""
    attempts: int
    """Endpoints tried so far, this one included."""


class PictureProgress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A denoising step is done. Begins anew when another endpoint takes over."""

    step: int
    """From 1, over all pictures of the request."""
    of: int


class Picture(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One whole picture, checked: it is as large as asked, of the asked format, and can be decoded."""

    index: int
    seed: int
    """Its own: with it the picture can be made again alone."""
    width: int
    height: int
    steps: int
    """Denoising steps that were run for it."""
    format: ImageFormat
    data: bytes
    parameters: str
    """How it was made, as AUTOMATIC1111 writes it into its pictures; also inside the file."""
    key: str | None
    """Where it is kept among the objects for `images_ttl_s`; None when that was not asked for."""


class PicturesFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The good end. The request is durably recorded when this is yielded."""

    request_id: UUID
    created_at: datetime
    """When the request arrived."""
    model: str
    """Slug of the model that served."""
    provider: str
    """Slug of the provider that served."""
    revision: str
    """Manifest digest of the served revision, "sha256:<hex>"."""
    attempts: int
    """Endpoints tried, the one that served included."""
    pixel_steps: int
    """What is billed; a million are a megapixel-step."""
    cost: Money


class PicturesBroken(msgspec.Struct, frozen=True, kw_only=True):
    """The bad end after a picture was handed out: those are billed, the rest of the hold is given back."""

    request_id: UUID
    error: DomainError
    provider: str
    attempts: int
    pixel_steps: int
    cost: Money


PictureEvent = PicturesStarted | PictureProgress | Picture | PicturesFinished | PicturesBroken
"""Whatever `ImageInference.run` yields."""
