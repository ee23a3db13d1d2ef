"""Settings of the compute plane's own processes, read once in main."""

from pydantic import Field

from raymart_core.settings import ProcessSettings


class AgentSettings(ProcessSettings):
    """What node agent and pool controller read from the environment, as `RAYMART_<NAME>`."""

    log_level: str = "INFO"
    drain_s: float = Field(default=20.0, ge=0)
    """How long running requests may go on after SIGTERM."""
    machine_id: str | None = None
    """Stands for another machine: several nodes on one host, for trials."""
    controller_interval_s: float = Field(default=1.0, gt=0)
    """How often the pool controller looks at Ray Serve."""
