"""Finds and stops every process of a stack, daemons of its parts included.

A process belongs to a stack when its environment carries the stack's marker; when it descends from such a process;
or when it is in the session of one of the stack's parts and hides its environment. The last rule is for programs that
write their title over their environment (Ray's agents, Redis, Postgres's backends) and outlive their parent.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable

import psutil

from raymart_local.stack_record import MARKER, StackRecord

STOP_GRACE_S = 8.0
POSTGRES_GRACE_S = 10.0
_POLL_S = 0.1


def processes_of(record: StackRecord) -> list[psutil.Process]:
    """The live processes of the stack, without the caller. Processes of other users that hide are not seen."""
    everything = {process.pid: process for process in psutil.process_iter() if _lives(process)}
    parents = {pid: _parent(process) for pid, process in everything.items()}
    found = {pid for pid, process in everything.items() if _belongs(process, record)}
    while children := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= children
    return [everything[pid] for pid in found - {os.getpid()}]


def stop_all(record: StackRecord, *, grace_s: float = STOP_GRACE_S) -> int:
    """Stop every process of the stack; returns how many there were. Nothing of it runs afterwards.

    First all but Postgres (SIGTERM, after `grace_s` SIGKILL), so that what they still write arrives; then Postgres
    (SIGINT, its fast shutdown; SIGQUIT; SIGKILL), so that its cluster is not torn without need.
    """
    seen: set[int] = set()

    def others() -> list[psutil.Process]:
        live = [process for process in processes_of(record) if not _is_postgres(process)]
        seen.update(process.pid for process in live)
        return live

    def postmasters() -> list[psutil.Process]:
        live = [process for process in processes_of(record) if _is_postgres(process)]
        seen.update(process.pid for process in live)
        ours = {process.pid for process in live}
        # Its own children are the postmaster's to stop; without it they end by themselves.
        return [process for process in live if _parent(process) not in ours]

    _stop(others, signals=((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)))
    _stop(
        postmasters,
        signals=((signal.SIGINT, POSTGRES_GRACE_S), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0)),
    )
    return len(seen)


def _stop(
    find: Callable[[], list[psutil.Process]], *, signals: Iterable[tuple[signal.Signals, float]]
) -> None:
    for number, patience_s in signals:
        deadline = time.monotonic() + patience_s
        signalled: set[psutil.Process] = set()
        # Looked up again and again: a process may start another one while it is being stopped.
        while live := find():
            for process in set(live) - signalled:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
                signalled.add(process)
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        else:
            return


def _belongs(process: psutil.Process, record: StackRecord) -> bool:
    try:
        environment = process.environ()
        if MARKER in environment:
            return environment[MARKER] == record.stack_id
        if "PATH" in environment:
            return False
        sid, created_at = os.getsid(process.pid), process.create_time()
    except (psutil.Error, OSError):
        return False
    return any(sid == session.sid and created_at >= session.started_at for session in record.sessions)


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_postgres(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.name() == "postgres"
    return False


def _parent(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return None
