"""What a stack leaves on disk about its processes, so that another process can stop all of them.

Written by the supervisor before the first part starts and at each start of a part; read by its guardian, and by the
next supervisor of the same data directory.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

from raymart_core.ids import new_id
from raymart_local.secret_file import write_private

MARKER = "RAYMART_STACK_ID"
"""Environment variable that every process of a stack inherits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One part's session: the process that leads it has `sid` for its pid, and all that it starts stays in it."""

    sid: int
    started_at: float
    """Creation time of the leader, seconds of the epoch; a session that is older is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRecord:
    """One run of a stack: its id, the boot it belongs to, and the sessions of its parts, oldest first."""

    stack_id: str
    boot_time: int
    sessions: tuple[Session, ...] = ()

    @classmethod
    def new(cls, *, stack_id: str | None = None) -> Self:
        """A run since this boot without sessions, by default one that begins now."""
        return cls(stack_id=stack_id or new_id().hex, boot_time=_boot_time())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The record at `path`; None when there is none, it is damaged, or the machine has restarted since."""
        try:
            fields = json.loads(path.read_text())
            sessions = tuple(Session(**session) for session in fields["sessions"])
            record = cls(stack_id=fields["stack_id"], boot_time=fields["boot_time"], sessions=sessions)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        # The clock's corrections move the computed boot time by a moment.
        return record if abs(record.boot_time - _boot_time()) < 60 else None

    def with_session(self, *, pid: int) -> Self:
        """The same run with the session that the live process `pid` leads."""
        try:
            started_at = psutil.Process(pid).create_time()
        except psutil.Error:
            return self
        session = Session(sid=pid, started_at=started_at)
        return type(self)(
            stack_id=self.stack_id, boot_time=self.boot_time, sessions=(*self.sessions, session)
        )

    def save(self, path: Path) -> None:
        """Replace the file at `path` in one step."""
        write_private(path, json.dumps(asdict(self)))


def _boot_time() -> int:
    return int(psutil.boot_time())
