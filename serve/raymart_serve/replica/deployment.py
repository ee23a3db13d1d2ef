"""The replica as Ray Serve runs it. Serve owns its life; no token ever travels through a Serve handle."""

import os

import msgspec
from ray import serve

from raymart_core.errors import RaymartError
from raymart_core.logs import configure_logs
from raymart_serve.replica.config import ReplicaConfig
from raymart_serve.replica.replica import Replica
from raymart_serve.settings import ReplicaSettings


class ReplicaUnhealthy(RaymartError):
    """Raised to Serve, which then replaces the replica."""


class ReplicaDeployment:
    """Maps Serve's hooks to a `Replica`. Everything runs on the event loop that Serve gives to user code."""

    async def __init__(self, config: dict[str, object]) -> None:  # type: ignore[misc] # Serve awaits it
        configure_logs(process="replica")
        settings = ReplicaSettings()
        asked = msgspec.convert(config, ReplicaConfig)
        delay_ms = max(asked.step_delay_ms, settings.replica_step_delay_ms)
        self._config = msgspec.structs.replace(asked, step_delay_ms=delay_ms)
        replica_id = serve.get_replica_context().replica_id.unique_id
        self._replica = Replica(self._config, settings, replica_id=replica_id)
        await self._replica.start()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What `autoscaling.replicas_for_load` reads: ongoing requests, and those as a share of the slots."""
        in_flight = self._replica.in_flight
        return {"running": float(in_flight), "load": in_flight / self._config.slots}

    async def check_health(self) -> None:
        """Raises: ReplicaUnhealthy when the engine is failing; three in a row and Serve starts another replica."""
        health = await self._replica.health()
        if health.state == "failing":
            raise ReplicaUnhealthy(health.reason)

    async def describe(self) -> dict[str, object]:
        """For operators and tests: who this is."""
        return {"replica_id": self._replica.replica_id, "pid": os.getpid(), "address": self._replica.address}

    async def __del__(self) -> None:
        """Serve awaits this when the replica is to go: drain, wait for what runs, leave."""
        await self._replica.stop(timeout_s=self._config.drain_timeout_s)
