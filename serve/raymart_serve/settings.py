"""Settings of the compute plane's own processes, each read once in main and passed down."""

from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from raymart_core.settings import ProcessSettings


class RaySettings(ProcessSettings):
    """How to authenticate to a Ray cluster. Both values are named on purpose.

    Ray turns token authentication on by itself where some other program left a token in the home directory, and
    off where none did (facts: seam). Without these two in the environment nothing of ours starts or joins Ray.
    """

    auth_mode: Literal["token"] = Field(validation_alias="RAY_AUTH_MODE")
    """Only "token": a cluster without authentication hands its machines to whoever reaches its port."""
    auth_token_path: Path = Field(validation_alias="RAY_AUTH_TOKEN_PATH")
    """File that holds the cluster's token."""


class RayStartSettings(ProcessSettings):
    """What our hook in `ray start` reads from the environment of a node."""

    ray_sockets: str | None = None
    """RAYMART_RAY_SOCKETS: path that the node's socket files begin with, at most 85 bytes; by default Ray names them."""
    ray_redis_password_file: Path | None = None
    """RAYMART_RAY_REDIS_PASSWORD_FILE: password of the Redis that the head keeps its state in (`head_store`)."""


class ReplicaSettings(ProcessSettings):
    """What a replica reads from the environment of its machine; a Serve worker inherits the raylet's."""

    agent_file: Path | None = None
    """RAYMART_AGENT_FILE: JSON file with the url and token of this machine's node agent."""
    replica_host: str = "127.0.0.1"
    """RAYMART_REPLICA_HOST: address where gateways reach the replica's HTTP server: loopback, or the machine's address in
    the pool's private network, where it speaks TLS only."""
    replica_step_delay_ms: float = Field(default=0.0, ge=0)
    """RAYMART_REPLICA_STEP_DELAY_MS: for tests only, pause before each step, so that a stream lasts long enough to be
    broken."""

    @field_validator("replica_host")
    @classmethod
    def _one_address(cls, host: str) -> str:
        address = ip_address(host)
        if address.is_unspecified or address.is_global:
            raise ValueError(
                f"{host!r} would offer the engine to everybody; give loopback or a private address"
            )
        return host


def ray_authentication_problem() -> str | None:
    """What is wrong with the Ray authentication named in the environment, or None."""
    try:
        # The fields come from the environment, which mypy cannot see.
        settings = RaySettings()  # type: ignore[call-arg]
    except ValidationError as error:
        names = ", ".join(str(part["loc"][0]) for part in error.errors())
        return f"{names} must be set: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=<file>"
    path = settings.auth_token_path
    if not path.is_file() or path.stat().st_size == 0:
        return f"RAY_AUTH_TOKEN_PATH={str(path)!r} is no file with a token; write one, readable only by its owner"
    return None
