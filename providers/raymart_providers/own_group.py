"""The end of a child process that was started in a process group of its own, with everything that it started."""

import asyncio
import contextlib
import os
import signal

import structlog

log = structlog.get_logger()

_PIPE_TIMEOUT_S = 1.0


async def end_group(process: asyncio.subprocess.Process) -> None:
    """Kill `process` and its children, and close its pipes. It must have been started with `start_new_session`."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        # Its own group, made at its start: nothing but the process and its children is in it.
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("child.gone", pid=process.pid)
    await process.wait()
    if process.stdout is not None:
        # To its end, so that the pipe is closed with the process and not by the garbage collector.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PIPE_TIMEOUT_S):
                await process.stdout.read()
