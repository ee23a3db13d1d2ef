"""The files of this machine's Ray: all in the agent's state directory, but for sockets whose paths must be short."""

import hashlib
import os
import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from raymart_providers.errors import ProviderError
from raymart_providers.private_file import read_private, write_private

TEMP_DIR_BYTES_MAX = 40
"""Ray adds up to 66 bytes for a socket's path, which the system limits to 107."""
_TEMP_DIR = "r"
_SHORT_PATHS = Path("/tmp")  # noqa: S108  # ours are closed to others; made, never taken over


@dataclass(frozen=True, slots=True)
class RayHome:
    """Paths of one machine's Ray; `root` is `ray/` in the state directory."""

    root: Path

    @property
    def token(self) -> Path:
        """The cluster's token, 0600."""
        return self.root / "token"

    @property
    def log(self) -> Path:
        """What Ray's own processes print."""
        return self.root / "ray.log"

    @property
    def record(self) -> Path:
        """Which process runs, for an agent that comes after a killed one."""
        return self.root / "process.json"

    @property
    def mark(self) -> str:
        """In the environment of every process of this Ray, and of no other."""
        return str(self.root.resolve())

    @property
    def session(self) -> Path:
        """Around `temp_dir`, closed to others. Inside `root` where that is short enough."""
        inside = self.root.resolve() / "session"
        if len(os.fsencode(inside / _TEMP_DIR)) <= TEMP_DIR_BYTES_MAX:
            return inside
        key = hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:12]
        return _SHORT_PATHS / f"rmn-{os.getuid()}-{key}"

    @property
    def temp_dir(self) -> Path:
        """Ray's own directory: sockets, logs. Ray opens it to everybody (mode 0777), hence what is around it."""
        return self.session / _TEMP_DIR

    def prepare(self) -> None:
        """Make what is missing. Raises: ProviderError, UnsafeFile."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.session.mkdir(mode=0o700, exist_ok=True)
        status = self.session.lstat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077 or self.session.is_symlink():
            raise ProviderError(
                f"{self.session} is open to others or not this user's; remove it, then join again"
            )
        if not self.token.exists():
            write_private(self.token, secrets.token_hex(32).encode())
        read_private(self.token)

    def clear_session(self) -> None:
        """Delete what an earlier Ray left; none may run."""
        for path in self.session.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete all of it; none may run."""
        shutil.rmtree(self.session, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def head_port(self, host: str) -> int:
        """The port of this machine's head: the same at each start as long as it is free, or an earlier head's still.

        Raises: ProviderError when `host` is not an address of this machine.
        """
        path = self.root / "port"
        try:
            kept = int(path.read_text())
        except (FileNotFoundError, ValueError):
            kept = 0
        if kept and self.record.exists():
            return kept
        port = _free_port(host, kept) or _free_port(host, 0)
        assert port is not None
        path.write_text(str(port))
        return port


def free_port(host: str) -> int:
    """Any free port of `host`."""
    port = _free_port(host, 0)
    assert port is not None
    return port


def _free_port(host: str, port: int) -> int | None:
    """`port` (0 for any) when `host` can listen on it. Raises: ProviderError when the address is not this machine's."""
    try:
        with socket.socket() as probe:
            # As Ray does: connections of an earlier head that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        if port:
            return None
        raise ProviderError(f"Ray cannot listen on {host} ({error.strerror}); correct --ray-host") from None
