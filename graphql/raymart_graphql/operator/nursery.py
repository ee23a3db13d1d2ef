"""Makes workers by forking: what has been imported once is in memory once, and a new worker needs no seconds to start.

A process of its own, without a thread or an event loop, because only such a one may fork. Its supervisor sends it the
listening socket and the control connection of each worker it wants; a supervisor that wants newer code starts another.
"""

import gc
import os
import signal
import socket
from collections.abc import Callable

PID_BYTES = 4
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def raise_workers(control_fd: int, work: Callable[[int, int], None]) -> None:
    """Fork for each pair of descriptors (listener, control) that comes, and answer with the pid; the child does `work`.

    Returns in each child when its work ends, and in the parent when the supervisor is gone and all children are.
    """
    gc.collect()
    gc.freeze()  # A collection would write to what is shared.
    for number in _SIGNALS:  # They are for workers; ignored children are nobody's to wait for.
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=control_fd) as control:
        while True:
            asked, descriptors, _, _ = socket.recv_fds(control, 1, 2)
            if not asked:
                break
            pid = os.fork()
            if pid == 0:
                control.close()
                for number in _SIGNALS:
                    signal.signal(number, signal.SIG_DFL)
                work(*descriptors)
                return
            for descriptor in descriptors:
                os.close(descriptor)
            control.sendall(pid.to_bytes(PID_BYTES))
    try:
        os.wait()  # With SIGCHLD ignored: until there is none.
    except ChildProcessError:
        return
