"""Settings of the embedded stack: `raymart up`, `demo` and `doctor`."""

from ipaddress import IPv4Address
from pathlib import Path

from pydantic import Field, field_validator

from raymart_core.settings import ProcessSettings
from raymart_local.ports import LOOPBACK


class LocalSettings(ProcessSettings):
    """Read once in main. A URL that is given replaces the embedded part of its kind."""

    port: int = Field(default=8000, ge=1, le=65535)
    """RAYMART_PORT: where the API listens."""
    host: str = LOOPBACK
    """RAYMART_HOST: the address that the API listens on. With another than loopback the stack is not in development and
    its administrator needs a second factor, unless the settings of the API say otherwise."""
    house_pool: bool = True
    """RAYMART_HOUSE_POOL: whether this machine is also the demo's two providers. Without them the market is empty until
    machines join from elsewhere."""
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

    @field_validator("host")
    @classmethod
    def _is_address(cls, host: str) -> str:
        """Raises: ValueError unless `host` is an IPv4 address."""
        return str(IPv4Address(host))

    @property
    def is_on_loopback(self) -> bool:
        """Whether nobody beyond this machine reaches the API."""
        return IPv4Address(self.host).is_loopback

    @property
    def reachable_host(self) -> str:
        """The address at which this machine itself reaches the API."""
        return LOOPBACK if IPv4Address(self.host).is_unspecified else self.host
