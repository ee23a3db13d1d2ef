"""Runs inside `ray start` (environment RAY_START_HOOK) right before a node of ours starts.

It imports nothing of Ray: Ray calls it with its own parameters.
"""

import os
from typing import Protocol

from raymart_serve.settings import RayStartSettings


class RayParameters(Protocol):
    """The fields of `ray._private.parameter.RayParams` that we set."""

    ray_client_server_port: int | None
    raylet_socket_name: str | None
    plasma_store_socket_name: str | None
    redis_password: str


def shape_node(parameters: RayParameters, is_head: bool) -> None:  # noqa: FBT001 - Ray's own call
    """Give the node socket names of its own (where RAYMART_RAY_SOCKETS says how they begin), and no Ray Client server.

    Nodes of one host otherwise take the next free name in a directory they share, and two that start together take the
    same one: one of them then dies (facts: seam, section 1). The process id is part of the name, because a killed node
    leaves its socket files and the next could not bind them. The client server, 95 MB at the head's port 10001, is
    used by nobody here and cannot be turned off by an argument. A head gets the password of its Redis from a file.
    """
    settings = RayStartSettings()
    parameters.ray_client_server_port = None
    if is_head and settings.ray_redis_password_file is not None:
        parameters.redis_password = settings.ray_redis_password_file.read_text().strip()
    prefix = settings.ray_sockets
    if prefix is not None:
        parameters.raylet_socket_name = f"{prefix}-{os.getpid()}-raylet"
        parameters.plasma_store_socket_name = f"{prefix}-{os.getpid()}-store"
