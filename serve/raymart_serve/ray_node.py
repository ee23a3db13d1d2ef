"""Start Ray's own processes: `python -m raymart_serve.ray_node <arguments of the ray command>`.

Three differences from `ray`. It refuses to run without explicit token authentication. With
`--node-ip-address=127.0.0.1` the cluster stays on loopback: Ray 2.60 silently turns that address into the machine's
LAN address, and GCS, raylets and agents then bind every interface (facts: seam, section 1). And at SIGTERM it does not
wait 30 seconds for Serve to move the node's replicas away, unless RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S says so:
ours are pinned to their node and cannot move. To let streams finish, drain the replicas before stopping Ray.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from raymart_serve.settings import ray_authentication_problem

LOOPBACK = "127.0.0.1"
_ADDRESS_FLAG = "--node-ip-address"


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the ray command with `arguments`, which ends the process; status 2 when it may not start."""
    problem = ray_authentication_problem()
    if problem is not None:
        sys.stderr.write(f"ray_node: {problem}\n")
        raise SystemExit(2)
    os.environ.setdefault("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")
    if asks_for_loopback(arguments):
        _stay_on_loopback()
    _run_ray(arguments)


def asks_for_loopback(arguments: Sequence[str]) -> bool:
    """Whether `--node-ip-address` is given as 127.0.0.1, in either spelling."""
    pairs = zip(arguments, [*arguments, ""][1:], strict=True)
    return any(
        flag == f"{_ADDRESS_FLAG}={LOOPBACK}" or (flag == _ADDRESS_FLAG and value == LOOPBACK)
        for flag, value in pairs
    )


def _stay_on_loopback() -> None:
    from ray._private import services  # noqa: PLC0415 - heavy, and only this process may be changed

    # Both are looked up as attributes of the module at each call, so that replacing them here reaches every caller
    # in this process; raylet and agents get the address as an argument.
    services.resolve_ip_for_localhost = lambda host: host
    services.get_node_ip_address = lambda _address=None: LOOPBACK


def _run_ray(arguments: Sequence[str]) -> NoReturn:
    from ray.scripts import scripts  # noqa: PLC0415 - heavy; a refusal must not wait for it

    scripts.cli.main(args=list(arguments), prog_name="ray")


if __name__ == "__main__":
    main(sys.argv[1:])
