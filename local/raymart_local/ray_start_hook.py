"""Runs inside `ray start` (environment RAY_START_HOOK) right before a node of ours starts.

It imports nothing of Ray: Ray calls it with its own parameters.
"""

import os
from typing import Protocol

from raymart_local.settings import RayStartSettings


class RayParameters(Protocol):
    """The fields of `ray._private.parameter.RayParams` that we set."""

    ray_client_server_port: int | None
    raylet_socket_name: str | None
    plasma_store_socket_name: str | None


def shape_node(parameters: RayParameters, _is_head: bool) -> None:  # noqa: FBT001 - Ray's own call
    """Give the node socket names of its own, and no Ray Client server.

    Nodes of one host otherwise take the next free name in a directory they share, and two that start together take the
    same one: one of them then dies (facts: seam, section 1). The process id is part of the name, because a killed node
    leaves its socket files and the next could not bind them. The client server, 95 MB at the head's port 10001, is
    used by nobody here and cannot be turned off by an argument.
    """
    # The fields come from the environment, which mypy cannot see.
    sockets = f"{RayStartSettings().ray_sockets}-{os.getpid()}"  # type: ignore[call-arg]
    parameters.ray_client_server_port = None
    parameters.raylet_socket_name = f"{sockets}-raylet"
    parameters.plasma_store_socket_name = f"{sockets}-store"
