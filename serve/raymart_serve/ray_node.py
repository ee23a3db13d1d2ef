"""Start Ray's own processes: `python -m raymart_serve.ray_node <arguments of the ray command>`.

Seven differences from `ray`. It is tuned (`ray_tuning`), and a node is shaped right before its start
(`ray_start_hook`), unless the environment says otherwise. It refuses to run without explicit token authentication. With
`--node-ip-address=127.0.0.1` the cluster stays on loopback: Ray 2.60 silently turns that address into the machine's
LAN address, and GCS, raylets and agents then bind every interface (facts: seam, section 1). And at SIGTERM it does not
wait 30 seconds for Serve to move the node's replicas away, unless RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S says so:
ours are pinned to their node and cannot move. To let streams finish, drain the replicas before stopping Ray. And a head
that was killed starts again beside nodes that wait for it (`head_store`). And it imports no more than a start needs,
and knows the ports of the node's agents beforehand, which Ray else waits for.
"""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import NoReturn

from raymart_serve.head_store import forget_last_address
from raymart_serve.ray_tuning import START_HOOK, tune
from raymart_serve.settings import ray_authentication_problem

LOOPBACK = "127.0.0.1"
_ADDRESS_FLAG = "--node-ip-address"
_OTHER_COMMANDS = ("ray.serve.scripts", "ray.dashboard.modules.job.cli", "ray.util.state.state_cli")
"""Subcommands of `ray` that Ray leaves out where they cannot be imported. Nobody uses them here."""
_AGENT_PORT_FLAGS = (
    "--runtime-env-agent-port",
    "--dashboard-agent-grpc-port",
    "--dashboard-agent-listen-port",
)


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the ray command with `arguments`, which ends the process; status 2 when it may not start."""
    problem = ray_authentication_problem()
    if problem is not None:
        sys.stderr.write(f"ray_node: {problem}\n")
        raise SystemExit(2)
    tune(os.environ)
    os.environ.setdefault("RAY_START_HOOK", START_HOOK)
    os.environ.setdefault("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")
    temp_dir = value_of("--temp-dir", arguments)
    if "--head" in arguments and temp_dir is not None:
        forget_last_address(Path(temp_dir))
    if asks_for_loopback(arguments):
        _stay_on_loopback()
    _run_ray([*arguments, *agent_ports(arguments)])


def asks_for_loopback(arguments: Sequence[str]) -> bool:
    """Whether `--node-ip-address` is given as 127.0.0.1, in either spelling."""
    return value_of(_ADDRESS_FLAG, arguments) == LOOPBACK


def value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The value of `flag`, in either spelling; the last one, None when it is not given."""
    pairs = zip_longest(arguments, arguments[1:])
    values = [
        following if argument == flag else argument.removeprefix(f"{flag}=")
        for argument, following in pairs
        if argument == flag or argument.startswith(f"{flag}=")
    ]
    return values[-1] if values else None


def agent_ports(arguments: Sequence[str]) -> list[str]:
    """Arguments with free ports for the agents of a node that is to start, but for those that `arguments` name.

    Without them the raylet joins its cluster only when both agents, in Python, have chosen theirs: 5.8 s after the start
    of a node's process instead of 1.7. A port that somebody takes meanwhile ends the node, which is then started again.
    """
    if list(arguments[:1]) != ["start"]:
        return []
    flags = [flag for flag in _AGENT_PORT_FLAGS if value_of(flag, arguments) is None]
    with ExitStack() as probes:
        # All at once, so that no two are the same.
        found = [probes.enter_context(socket.create_server(("", 0))) for _ in flags]
        return [f"{flag}={probe.getsockname()[1]}" for flag, probe in zip(flags, found, strict=True)]


def _stay_on_loopback() -> None:
    from ray._private import services  # noqa: PLC0415 - heavy, and only this process may be changed

    # Both are looked up as attributes of the module at each call, so that replacing them here reaches every caller
    # in this process; raylet and agents get the address as an argument.
    services.resolve_ip_for_localhost = lambda host: host
    services.get_node_ip_address = lambda _address=None: LOOPBACK


def _run_ray(arguments: Sequence[str]) -> NoReturn:
    # None in sys.modules lets an import fail; Ray's command goes on without these, and starts in 0.6 s instead of 1.4.
    sys.modules.update(dict.fromkeys(_OTHER_COMMANDS))  # type: ignore[arg-type]
    from ray.scripts import scripts  # noqa: PLC0415 - heavy; a refusal must not wait for it

    scripts.cli.main(args=list(arguments), prog_name="ray")


if __name__ == "__main__":
    main(sys.argv[1:])
