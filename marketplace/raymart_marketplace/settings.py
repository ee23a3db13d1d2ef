"""Settings of the control plane's processes: API, Celery worker and beat, operator commands."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from raymart_core.settings import ProcessSettings
from raymart_marketplace.db.migrate import REPOSITORY_SCRIPTS


class ControlSettings(ProcessSettings):
    """Read once in main; every name is in the environment as `RAYMART_<NAME>` unless an alias says otherwise."""

    database_url: str = Field(validation_alias="DATABASE_URL")
    """postgresql://user:password@host:port/database, PostgreSQL 16 or newer."""
    broker_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="BROKER_URL")
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    log_level: str = "INFO"
    development: bool = False
    """Opens GraphQL introspection and suggestions, for people who build against this instance."""
    migrations_dir: Path = REPOSITORY_SCRIPTS
    """The alembic folder, whose newest revision `GET /ready` expects the database to be at."""

    token_secret: SecretStr
    """Signs access tokens; at least 32 bytes of randomness, the same in every API process."""
    token_issuer: str = "raymart"
    token_audience: str = "raymart-api"
    access_token_ttl_s: int = Field(default=900, ge=60, le=43_200)

    fee_basis_points: int = Field(default=1_000, ge=0, le=10_000)
    """The platform's share of what customers pay."""
    request_deadline_s: float = Field(default=120.0, gt=0)
    """Longest life of one inference request."""
    first_token_timeout_s: float = Field(default=15.0, gt=0)
    """An endpoint that sends no token for this long is left, and the request retried elsewhere."""
    stall_timeout_s: float = Field(default=5.0, gt=0)
    """The same between two tokens; the request then ends with an error event."""
    attempts_max: int = Field(default=3, ge=1, le=10)
    hold_ttl_s: float = Field(default=180.0, gt=0)
    """Must outlive `request_deadline_s`, or a hold could void under a running request."""
    record_timeout_s: float = Field(default=30.0, gt=0)
    """How long a finished request waits for the database before its final byte is given up."""
    body_bytes_max: int = Field(default=2_000_000, ge=1_000)

    link_server_name: str = "raymart"
    """Name that nodes sign into their proofs; one per marketplace."""
    link_heartbeat_s: float = Field(default=1.0, gt=0)
    link_lease_s: float = Field(default=4.0, gt=0)
    """A node silent for this long leaves routing."""
    ready_endpoints_min: int = Field(default=0, ge=0)
    """`GET /ready` waits for this many live endpoints; 0 in production, where readiness is the process's own."""
    sweep_interval_s: float = Field(default=5.0, gt=0)
    """How often Celery beat posts what the gateway left and voids expired holds."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.token_secret.get_secret_value().encode()) < 32:
            raise ValueError(
                "RAYMART_TOKEN_SECRET has fewer than 32 bytes; make one with `openssl rand -hex 32`"
            )
        if self.hold_ttl_s <= self.request_deadline_s:
            raise ValueError(
                f"RAYMART_HOLD_TTL_S={self.hold_ttl_s} must exceed RAYMART_REQUEST_DEADLINE_S={self.request_deadline_s}"
            )
        return self
