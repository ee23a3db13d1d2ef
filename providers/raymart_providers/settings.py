"""Settings of the compute plane's own processes, read once in main."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from raymart_core.settings import ProcessSettings


class AgentSettings(ProcessSettings):
    """What node agent and pool controller read from the environment, as `RAYMART_<NAME>`."""

    log_level: str = "INFO"
    drain_s: float = Field(default=20.0, ge=0)
    """How long running requests may go on after SIGTERM."""
    machine_id: str | None = None
    """Stands for another machine: several nodes on one host, for trials."""
    gpus: str = "all"
    """RAYMART_GPUS: which GPUs are for sale: all, none, or UUIDs separated by commas."""
    controller_interval_s: float = Field(default=1.0, gt=0)
    """How often the pool controller looks at Ray Serve."""
    model_cache: Path | None = None
    """RAYMART_MODEL_CACHE: folder for models from the registry; by default `models` in the state directory."""
    model_cache_bytes: int = Field(default=200 * 1024**3, gt=0)
    """RAYMART_MODEL_CACHE_BYTES: what it may hold; the revision used longest ago goes first."""
    artifact_host: str | None = None
    """RAYMART_ARTIFACT_HOST: this machine's address in the pool's private network, to share models with other nodes.
    By default it shares none."""
    unsealed_dir: Path | None = None
    """RAYMART_UNSEALED_DIR: where sealed models lie in clear while a replica has them loaded, such as a folder in
    /dev/shm; by default inside the model cache."""

    stream_weights: Literal["never", "full", "always"] = "full"
    """RAYMART_STREAM_WEIGHTS: whether replicas fetch a model into memory, without a copy on disk, where the cache has no
    room for it; or always."""
    stream_dir: Path | None = None
    """RAYMART_STREAM_DIR: a folder on a memory file system for that; by default one in /dev/shm where there is that."""

    @property
    def memory_dir(self) -> Path | None:
        """Where streamed models lie; None where there is no memory file system."""
        shared_memory = Path("/dev/shm")  # noqa: S108  # not predictable: the folder is the user's own, 0700
        if self.stream_dir is not None or not shared_memory.is_dir():
            return self.stream_dir
        return shared_memory / f"raymart-{os.getuid()}"

    @field_validator("artifact_host")
    @classmethod
    def _inside(cls, host: str | None) -> str | None:
        address = ip_address(host) if host is not None else None
        if address is not None and (
            not address.is_private or address.is_unspecified or address.is_link_local
        ):
            raise ValueError(f"{host!r} would offer models to everybody; give loopback or a private address")
        return host
