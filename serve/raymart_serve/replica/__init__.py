"""A replica: one engine, its own HTTP server, its registration with the node agent. Ray is not imported here."""

from raymart_serve.replica.config import ReplicaConfig
from raymart_serve.replica.replica import Replica

__all__ = ["Replica", "ReplicaConfig"]
