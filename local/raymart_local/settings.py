"""Settings of the embedded stack: `raymart up`, `demo` and `doctor`."""

from pathlib import Path

from pydantic import Field

from raymart_core.settings import ProcessSettings


class LocalSettings(ProcessSettings):
    """Read once in main. A URL that is given replaces the embedded part of its kind."""

    port: int = Field(default=8000, ge=1, le=65535)
    """RAYMART_PORT: where the API listens, on 127.0.0.1."""
    data_dir: Path = Path("var")
    """RAYMART_DATA_DIR: everything that the stack keeps, secrets and logs included."""
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    """postgresql://user:password@host:port/database of a server that somebody else runs, as a member of raymart_runtime."""
    migration_database_url: str | None = Field(default=None, validation_alias="MIGRATION_DATABASE_URL")
    """The same database as its owner; only `raymart db upgrade` gets it. Without one DATABASE_URL migrates too."""
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL")
    broker_url: str | None = Field(default=None, validation_alias="BROKER_URL")
    """Where Celery's messages go; default the embedded Redis, beside the caches."""
    solana_rpc_url: str | None = Field(default=None, validation_alias="SOLANA_RPC_URL")
    """One or two JSON-RPC endpoints of devnet or mainnet, with the other settings of the chain; default a chain of our own."""
    ready_timeout_s: float = Field(default=300.0, gt=0)
    """RAYMART_READY_TIMEOUT_S: how long the whole stack may take to become ready."""


class RayStartSettings(ProcessSettings):
    """What our hook in `ray start` reads from the environment of a node."""

    ray_sockets: str
    """RAYMART_RAY_SOCKETS: path that the node's socket files begin with; at most 85 bytes."""
