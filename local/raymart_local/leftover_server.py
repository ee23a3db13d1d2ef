"""A server that outlived a killed owner, found by its pid file."""

from pathlib import Path

import psutil

from raymart_local.errors import DataDirInUse


def stop_leftover_server(pid_file: Path, *, argument: str, signal: int, timeout_s: float) -> None:
    """Stop the server named in `pid_file` if it still runs with `argument` on its command line; drop a stale file.

    The caller holds the data directory's lock, so a running server can only be a leftover. A dead one's pid file goes
    too: its number may by now belong to another server of the same account, which would refuse our start.
    Raises: DataDirInUse, when the server does not stop within `timeout_s`.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    try:
        process = psutil.Process(pid)
        is_ours = argument in process.cmdline()
    except psutil.Error:
        is_ours = False
    if not is_ours:
        pid_file.unlink(missing_ok=True)
        return
    process.send_signal(signal)
    try:
        process.wait(timeout_s)
    except psutil.TimeoutExpired:
        raise DataDirInUse(pid_file.parent, pid=pid) from None
