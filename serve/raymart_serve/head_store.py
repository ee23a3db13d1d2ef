"""Where a Ray head keeps its state outside itself: a Redis of the pool's own.

With it a head that was killed comes back as the same cluster: nodes, actors and Serve's applications are as they were,
and replicas answer on throughout. Without it the pool ends with its head. It is never the control plane's Redis: whoever
is inside a Ray cluster can read what the head's processes read.

Source: docs.ray.io, "GCS fault tolerance". Ray takes the password as an argument and passes it on as one to processes on
the head's machine, where `ps` shows it: only the head's own user may log in there.
"""

from collections.abc import Mapping
from pathlib import Path

RECONNECT_S = 600
"""How long nodes look for their head; the default of Ray is a minute, `ray_tuning`'s is seconds."""


def surviving_environment() -> Mapping[str, str]:
    """For every process of a cluster whose head keeps its state elsewhere: wait for it."""
    return {"RAY_gcs_rpc_server_reconnect_timeout_s": str(RECONNECT_S)}


def head_environment(*, redis_address: str, password_file: Path | None, namespace: str) -> Mapping[str, str]:
    """For the head itself. `redis_address` is host:port; `namespace` keeps clusters in one Redis apart."""
    secret = {} if password_file is None else {"RAYMART_RAY_REDIS_PASSWORD_FILE": str(password_file)}
    return {
        **surviving_environment(),
        "RAY_REDIS_ADDRESS": redis_address,
        "RAY_external_storage_namespace": namespace,
        **secret,
    }


def forget_last_address(temp_dir: Path) -> None:
    """Let a head start again in `temp_dir` while nodes of its cluster are on this machine.

    `ray start` reads there where the last head was, finds processes that speak to that address (the nodes, which wait
    for it), and takes it for running. A head that does run keeps the port, and the second cannot listen.
    """
    (temp_dir / "ray_current_cluster").unlink(missing_ok=True)
