"""`support.command_line`: a command that a test runs has its own output, whatever else this process does."""

import threading

import structlog

from support.command_line import run

log = structlog.get_logger()


def test_other_threads_logs_are_not_its_output() -> None:
    """A server of another test warns all the while: neither stream has a line of it."""
    is_over = threading.Event()

    def warn() -> None:
        while not is_over.wait(0.001):
            log.warning("thread.warned")

    thread = threading.Thread(target=warn)
    thread.start()
    try:
        done = run(None, "--help")
    finally:
        is_over.set()
        thread.join()
    assert "thread.warned" not in done.stdout + done.stderr
