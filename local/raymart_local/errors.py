"""What stops the embedded stack. Each message says what is wrong, the value and the next step.

RaymartError
└── LocalError
    ├── DataDirInUse   another supervisor runs on this data directory
    ├── PortBusy       somebody else listens where a part must
    ├── PartMissing    a program that a part needs is not installed
    └── PartFailed     a part did not start, or died for good
"""

from pathlib import Path

from raymart_core.errors import RaymartError


class LocalError(RaymartError):
    """The embedded stack cannot go on; the message is for the person at the terminal."""


class DataDirInUse(LocalError):
    """Process `pid` holds `path`."""

    def __init__(self, path: Path, *, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path} is in use by {holder}; stop that one, or give this one its own RAYMART_DATA_DIR"
        )
        self.path = path
        self.pid = pid


class PortBusy(LocalError):
    """Port `port` of 127.0.0.1 is taken."""

    def __init__(self, port: int, *, purpose: str, setting: str | None = None) -> None:
        fix = f"choose another with {setting}=<port>" if setting else "stop the program that listens there"
        super().__init__(f"port {port} of 127.0.0.1, meant for the {purpose}, is taken; {fix}")
        self.port = port


class PartMissing(LocalError):
    """A program that a part runs is not on this machine."""


class PartFailed(LocalError):
    """A part did not become ready or died; the message names its log."""

    def __init__(self, part: str, reason: str, *, log_path: Path | None = None) -> None:
        where = f"; its log is {log_path}" if log_path else ""
        super().__init__(f"{part} {reason}{where}")
        self.part = part
        self.log_path = log_path
