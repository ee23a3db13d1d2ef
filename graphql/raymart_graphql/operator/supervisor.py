"""The command that supervises workers, become a process that has only the supervisor in memory.

Usage: python -m raymart_graphql.operator.supervisor LOG_LEVEL DRAIN_S PATIENCE_S LISTENER_FD...
"""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from raymart_core.errors import Unavailable
from raymart_core.logs import configure_logs
from raymart_graphql.operator.workers import Workers


def become_supervisor(
    listeners: Sequence[socket.socket], *, drain_s: float, patience_s: float, log_level: str
) -> NoReturn:
    """Go on as the supervisor of one worker for each of `listeners`, under the same process id.

    Reading its settings has left the command with most of the API's libraries, three times what a supervisor needs, and
    a supervisor lives as long as the service. Raises: OSError when Python cannot be started anew.
    """
    for listener in listeners:
        listener.set_inheritable(True)
    descriptors = [str(listener.fileno()) for listener in listeners]
    command = [
        sys.executable,
        "-m",
        "raymart_graphql.operator.supervisor",
        log_level,
        str(drain_s),
        str(patience_s),
        *descriptors,
    ]
    os.execv(command[0], command)  # noqa: S606 - our own program, in our own environment


def main() -> None:
    """Supervise until SIGTERM; exit status 1 when the workers do not start."""
    log_level, drain_s, patience_s, *descriptors = sys.argv[1:]
    configure_logs(process="api", level=log_level)
    listeners = [socket.socket(fileno=int(descriptor)) for descriptor in descriptors]
    for listener in listeners:
        listener.set_inheritable(False)
    try:
        asyncio.run(Workers(listeners, drain_s=float(drain_s), patience_s=float(patience_s)).run())
    except Unavailable as error:
        sys.exit(f"raymart: {error.message}")


if __name__ == "__main__":
    main()
