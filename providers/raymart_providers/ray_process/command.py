"""The command and the environment of this machine's Ray. Pure, but for what Ray itself finds on the machine."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raymart_providers.ray_process.options import RayOptions
from raymart_providers.ray_process.own_files import RayHome

MARK = "RAYMART_RAY_HOME"
"""Environment variable by which the processes of this Ray are known."""
OBJECT_STORE_BYTES = 80_000_000
"""Little more than Ray's minimum: no tokens travel through the object store."""
NODE_LABEL = "raymart.io/node"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCommand:
    """What to run; the environment is the whole one."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


def head_command(
    home: RayHome,
    options: RayOptions,
    *,
    port: int,
    dashboard_port: int,
    labels: Mapping[str, str],
    environment: Mapping[str, str],
) -> RayCommand:
    """A head; it runs replicas too unless `options` give it no CPUs.

    `environment` is `ray_environment`'s. `dashboard_port` is taken by nobody: the dashboard is off, but its process
    starts all the same, and Ray complains when the default port is another cluster's.
    """
    arguments = (
        "--head",
        f"--port={port}",
        f"--temp-dir={home.temp_dir}",
        "--include-dashboard=false",
        f"--dashboard-port={dashboard_port}",
        "--no-monitor",
    )
    return _command(arguments, options, labels=labels, environment=environment)


def node_command(
    options: RayOptions, *, head: str, labels: Mapping[str, str], environment: Mapping[str, str]
) -> RayCommand:
    """A node of the cluster whose head listens at `head` (host:port)."""
    return _command((f"--address={head}",), options, labels=labels, environment=environment)


def ray_environment(
    home: RayHome,
    options: RayOptions,
    *,
    node: str,
    agent_file: str = "",
    gpus: Sequence[str] = (),
    base: Mapping[str, str],
) -> dict[str, str]:
    """What Ray's processes and replicas get: `base` without what it tells some other Ray. `gpus` are UUIDs.

    Ray offers the GPUs that CUDA_VISIBLE_DEVICES leaves, and gives each replica its own of them.
    """
    environment = {name: value for name, value in base.items() if not name.startswith("RAY_")}
    return environment | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(options.token_path or home.token),
        "RAYMART_RAY_SOCKETS": str(home.temp_dir / "sockets" / node[:24]),
        **({"RAYMART_AGENT_FILE": agent_file} if agent_file else {}),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        # Where the gateway reaches replicas itself they listen where Ray does; else nobody beside the agent can.
        **({"RAYMART_REPLICA_HOST": options.host} if options.direct else {}),
        MARK: home.mark,
        **({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"} if sys.platform == "darwin" else {}),
    }


def _command(
    arguments: tuple[str, ...],
    options: RayOptions,
    *,
    labels: Mapping[str, str],
    environment: Mapping[str, str],
) -> RayCommand:
    cpus = () if options.cpus is None else (f"--num-cpus={options.cpus}",)
    common = (
        "--block",
        f"--node-ip-address={options.host}",
        f"--labels={','.join(f'{name}={value}' for name, value in sorted(labels.items()))}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        "--include-log-monitor=false",
        "--disable-usage-stats",
    )
    argv = (sys.executable, "-m", "raymart_serve.ray_node", "start", *arguments, *cpus, *common)
    return RayCommand(argv=argv, environment=environment)
