"""`raymart-provider join --install-service`: the machine serves from its next start on, in a closed systemd unit.

Source: systemd.exec(5), systemd.resource-control(5), systemd.service(5).
"""

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raymart_providers.errors import ProviderError
from raymart_providers.settings import AgentSettings
from raymart_providers.state_dir import StateDir

_SYSTEM_UNITS = Path("/etc/systemd/system")
_USER_UNITS = Path(".config/systemd/user")
_COMMAND_TIMEOUT_S = 60.0
_STOP_MARGIN_S = 60.0
"""For Ray and the link's farewell, after the drain."""

_EVERYWHERE = """\
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
"""
_SYSTEM_ONLY = """\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateIPC=no
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RemoveIPC=yes
"""
_GPU_DEVICES = """\
DevicePolicy=closed
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
"""
_NO_DEVICES = "PrivateDevices=yes\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUnit:
    """One node's unit. A system's where root installs it, else one of the user's own service manager."""

    name: str
    """Of the node."""
    command: tuple[str, ...]
    """What runs, absolute."""
    writable: tuple[Path, ...]
    """The only folders that it may write, besides its own /tmp."""
    user: str
    """Of the system unit."""
    environment: tuple[tuple[str, str], ...] = ()
    drain_s: float
    gpus: bool
    system: bool

    @property
    def file_name(self) -> str:
        """raymart-provider-<node>.service."""
        return f"raymart-provider-{self.name}.service"

    def text(self) -> str:
        """The unit file."""
        closed = _EVERYWHERE
        if self.system:
            closed += _SYSTEM_ONLY + (_GPU_DEVICES if self.gpus else _NO_DEVICES)
            closed += "".join(f"ReadWritePaths={_quoted(path)}\n" for path in self.writable)
        user = f"User={self.user}\n" if self.system else ""
        variables = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in self.environment)
        return (
            "[Unit]\n"
            f"Description=Raymart node {self.name}\n"
            "Wants=network-online.target\nAfter=network-online.target\n"
            # What a restart cannot mend, such as a revoked key, ends the tries; `systemctl status` shows the reason.
            "StartLimitIntervalSec=600\nStartLimitBurst=10\n\n"
            "[Service]\nType=exec\n"
            f"ExecStart={' '.join(map(_argument, self.command))}\n"
            f"{user}{variables}"
            "Restart=on-failure\nRestartSec=10\n"
            # The agent ends Ray and its replicas in order; what is left of the unit's own processes is killed.
            f"KillMode=mixed\nTimeoutStopSec={self.drain_s + _STOP_MARGIN_S:.0f}\n"
            "LimitNOFILE=65536\nTasksMax=infinity\n"
            f"{closed}\n"
            f"[Install]\nWantedBy={'multi-user' if self.system else 'default'}.target\n"
        )

    def folder(self) -> Path:
        """Where the service manager looks for it."""
        return _SYSTEM_UNITS if self.system else Path.home() / _USER_UNITS


def installed(unit: ServiceUnit, *, folder: Path | None = None, start: bool = True) -> Path:
    """Write the unit and have it started, now and at each boot; its path. Raises: ProviderError."""
    folder = folder or unit.folder()
    systemctl = shutil.which("systemctl")
    if start and systemctl is None:
        raise ProviderError("this machine has no systemd; run `raymart-provider join` by what it has instead")
    path = folder / unit.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(unit.text())
        path.chmod(0o644)
    except OSError as error:
        raise ProviderError(f"{path} cannot be written ({error.strerror}); run this as root") from None
    if start and systemctl is not None:
        scope = () if unit.system else ("--user",)
        _run((systemctl, *scope, "daemon-reload"))
        _run((systemctl, *scope, "enable", "--now", unit.file_name))
    return path


def here(
    *,
    name: str,
    arguments: Sequence[str],
    settings: AgentSettings,
    state: StateDir,
    gpus: bool,
    user: str | None,
) -> ServiceUnit:
    """The unit of this machine's node: `raymart-provider join` with `arguments`, as `user` (default: who asks).

    The agent's settings that the environment names now are kept in it. Makes the folders that the unit may write.
    Raises: ProviderError.
    """
    command = shutil.which("raymart-provider", path=f"{Path(sys.executable).parent}:{os.defpath}")
    if command is None:
        raise ProviderError("raymart-provider is not beside its Python; install it again")
    system = os.geteuid() == 0
    if user is not None and not system:
        raise ProviderError("--service-user is for a system's unit; run this as root")
    folders = (state.root, settings.model_cache, settings.unsealed_dir, settings.stream_dir)
    writable = tuple(folder.resolve() for folder in folders if folder is not None)
    for folder in writable:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ServiceUnit(
        name=name,
        command=(command, "join", *arguments),
        writable=writable,
        user=user or getpass.getuser(),
        environment=_kept_settings(os.environ),
        drain_s=settings.drain_s,
        gpus=gpus,
        system=system,
    )


def hand_over(folder: Path, user: str) -> None:
    """Give the node's state to the account that its service runs as. Raises: ProviderError."""
    try:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, user=user)
    except (LookupError, OSError) as error:
        raise ProviderError(f"{folder} cannot be given to the user {user!r} ({error})") from None


def _kept_settings(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Nothing but the agent's own: a unit file is readable by everybody."""
    names = {f"RAYMART_{field.upper()}" for field in AgentSettings.model_fields}
    return tuple(sorted((name, value) for name, value in environment.items() if name in names))


def _run(command: tuple[str, ...]) -> None:
    try:
        # The command is systemctl with the name of our own unit.
        subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S
        )
    except subprocess.CalledProcessError as error:
        raise ProviderError(f"`{' '.join(command)}` failed: {error.stderr.strip()[-500:]}") from None
    except subprocess.TimeoutExpired:
        raise ProviderError(f"`{' '.join(command)}` took over {_COMMAND_TIMEOUT_S:g} s") from None


def _quoted(value: str | Path) -> str:
    """As systemd reads it: backslashes, quotes and its own specifiers (%) mean themselves. Raises: ProviderError."""
    text = str(value)
    if "\n" in text or "\0" in text:
        raise ProviderError(f"{text!r} does not fit into a unit file; take the line break out")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(character in text for character in " '\"\\;") else escaped


def _argument(value: str) -> str:
    """Of a command line, where $ begins a variable."""
    return _quoted(value).replace("$", "$$")
