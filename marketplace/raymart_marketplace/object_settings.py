"""Settings of pictures, and of where files are kept."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from raymart_core.settings import ProcessSettings


class ObjectSettings(ProcessSettings):
    """Part of `ControlSettings`; the same in every process."""

    objects_url: str | None = Field(
        default=None, pattern=r"^(s3://[a-z0-9.-]+(/[^?#\s]*)?|file:///[^?#\s]+)$"
    )
    """Where files are kept: `s3://bucket/prefix`, or a folder as `file:///path` that all processes share; `objects/` below
    `data_dir` unless set."""
    objects_endpoint: str | None = Field(default=None, pattern=r"^https?://[^?#\s]+$")
    """An S3-compatible server, reachable for customers and nodes too: signed URLs name it. AWS unless set."""
    objects_region: str = "us-east-1"
    objects_access_key_id: str | None = None
    objects_secret_access_key: SecretStr | None = None
    """Without these two, the credentials of the machine or its role."""
    images_ttl_s: float = Field(default=86_400.0, ge=60, le=604_800)
    """How long a generated image is kept, and its URL is good. S3 signs for 7 days at most."""

    image_deadline_s: float = Field(default=300.0, gt=0, le=3_600)
    """Longest life of one request for pictures."""
    image_step_timeout_s: float = Field(default=60.0, gt=0)
    """An endpoint that is silent for this long while it makes pictures is left; a step of a large one takes a while."""
    image_body_bytes_max: int = Field(default=33_554_432, ge=1_000, le=33_554_432)
    """Of a request for pictures with what it sends along; replicas take no more."""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if (self.objects_access_key_id is None) != (self.objects_secret_access_key is None):
            raise ValueError(
                "RAYMART_OBJECTS_ACCESS_KEY_ID and RAYMART_OBJECTS_SECRET_ACCESS_KEY go together: set both or none"
            )
        return self
