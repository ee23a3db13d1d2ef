"""The house pool's Ray cluster on one host: a small head and the providers' nodes, all on 127.0.0.1.

`raymart_serve.ray_node` and `pool_worker` tune Ray (`raymart_serve.ray_tuning`) wherever this environment says nothing.
"""

import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from raymart_local.errors import PartFailed
from raymart_local.part import Part, says_yes
from raymart_local.ports import LOOPBACK, free_port, is_open, remembered_port
from raymart_local.program import Program
from raymart_local.redis import EmbeddedRedis
from raymart_local.secret_file import secret_at

HEAD = "ray-head"
HEAD_STORE = "ray-redis"
OBJECT_STORE_BYTES = 80_000_000
"""Little more than Ray's minimum: no tokens travel through the object store."""
TEMP_DIR_BYTES_MAX = 40
"""Ray adds up to 66 bytes for a socket's path, which the system limits to 107."""
READY_TIMEOUT_S = 120.0
RECONNECT_S = "600"
"""How long nodes wait for their head, whose state is in Redis (`raymart_serve.head_store`)."""
STARTS_MAX = 4
"""Ray gives a raylet 30 s, which a busy machine may not manage at the first try."""

_SHORT_PATHS = Path("/tmp")  # noqa: S108 - ours are closed to others; made, never taken over
_SHORT_PREFIX = f"raymart-{os.getuid()}-"
_NOTE = "data-dir"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """One cluster on this machine: where its files are, its port and the environment of its processes."""

    port: int
    """Port of the head (GCS)."""
    temp_dir: Path
    environment: Mapping[str, str]
    """What a process of the cluster, or a program that connects to it, has in its environment."""
    store: EmbeddedRedis
    """Where the head keeps its state, so that it may be killed; the pool's own, not the control plane's."""
    namespace: str
    """Of this run's state in there: another run is another cluster."""

    @classmethod
    def at(cls, data_dir: Path, *, token_path: Path, environment: Mapping[str, str]) -> Self:
        """The cluster of `data_dir` (the stack's `ray/`), which must not run; an earlier run's files are deleted."""
        data_dir.mkdir(parents=True, exist_ok=True)
        secret_at(token_path)
        more = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_path)}
        if sys.platform == "darwin":
            more["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
        # A cluster of an earlier run is over: its nodes are gone.
        shutil.rmtree(data_dir / "redis" / "appendonlydir", ignore_errors=True)
        # What the caller's shell tells some other Ray (RAY_ADDRESS, ...) must not shape this cluster.
        others = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
        return cls(
            port=remembered_port(data_dir / "port"),
            temp_dir=_new_temp_dir(data_dir),
            environment={**others, **more, "RAY_gcs_rpc_server_reconnect_timeout_s": RECONNECT_S},
            store=EmbeddedRedis(data_dir / "redis"),
            namespace=f"house-{secrets.token_hex(4)}",
        )

    @property
    def address(self) -> str:
        """`host:port` of the head."""
        return f"{LOOPBACK}:{self.port}"

    def head(self) -> Part:
        """The head: cluster state and Serve's controller, no work."""
        head = self._part(
            "head",
            "--head",
            f"--port={self.port}",
            f"--temp-dir={self.temp_dir}",
            "--num-cpus=0",
            "--include-dashboard=false",
            # Its process starts all the same, and Ray complains when the default port is another cluster's.
            f"--dashboard-port={free_port()}",
            "--no-monitor",
            "--labels=raymart.io/node=head",
        )

        def program() -> Program:
            # Its port is chosen when it starts.
            where = {
                "RAY_REDIS_ADDRESS": self.store.address,
                "RAY_external_storage_namespace": self.namespace,
                "RAYMART_RAY_REDIS_PASSWORD_FILE": str(self.store.password_file),
            }
            return head.program().with_environment(where)

        # Nodes can join as soon as the head's GCS answers; the rest of the head starts beside them.
        return replace(
            head,
            program=program,
            needs=(HEAD_STORE,),
            ready_log_line=None,
            is_ready=says_yes(lambda: is_open(self.port)),
        )

    def head_store(self) -> Part:
        """The Redis of the head."""
        return Part(
            name=HEAD_STORE,
            program=self.store.prepare,
            is_ready=says_yes(self.store.is_answering),
            shows_log=False,
        )

    def node(self, name: str, *, provider: str, cpus: int, agent_file: Path) -> Part:
        """A provider's machine `name`; replicas on it find its node agent through `agent_file`."""
        part = self._part(
            name,
            f"--address={self.address}",
            f"--num-cpus={cpus}",
            f"--labels=raymart.io/node={name},raymart.io/provider={provider}",
            more={"RAYMART_AGENT_FILE": str(agent_file)},
        )
        return replace(part, needs=(HEAD,))

    def _part(self, name: str, *arguments: str, more: Mapping[str, str] = {}) -> Part:
        common = (
            "--block",
            f"--node-ip-address={LOOPBACK}",
            "--num-gpus=0",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            "--include-log-monitor=false",
            "--disable-usage-stats",
        )
        argv = (sys.executable, "-m", "raymart_serve.ray_node", "start", *arguments, *common)
        environment = {
            **self.environment,
            **more,
            "RAYMART_RAY_SOCKETS": str(self.temp_dir / "sockets" / name),
        }
        return Part(
            name=f"ray-{name}",
            program=lambda: Program(argv=argv, env=environment, cwd=self.temp_dir),
            ready_log_line="Ray runtime started.",
            ready_timeout_s=READY_TIMEOUT_S,
            starts_max=STARTS_MAX,
        )


def _new_temp_dir(data_dir: Path) -> Path:
    """An empty directory for Ray's session, in `data_dir` where sockets below it keep within the system's limit."""
    inside = data_dir / "session"
    if len(os.fsencode(inside)) <= TEMP_DIR_BYTES_MAX:
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir(mode=0o700)
        return inside
    _forget_deleted()
    key = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    home = _SHORT_PATHS / f"{_SHORT_PREFIX}{key}"
    shutil.rmtree(home, ignore_errors=True)
    try:
        home.mkdir(mode=0o700)
    except FileExistsError:
        raise PartFailed(HEAD, f"needs the directory {home}, which somebody else made; remove it") from None
    (home / _NOTE).write_text(f"{data_dir}\n")
    (home / "session").mkdir()
    return home / "session"


def _forget_deleted() -> None:
    """Delete the session directories whose data directory is gone."""
    for note in _SHORT_PATHS.glob(f"{_SHORT_PREFIX}*/{_NOTE}"):
        if not Path(note.read_text().strip()).exists():
            shutil.rmtree(note.parent, ignore_errors=True)
