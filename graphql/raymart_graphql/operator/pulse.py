"""Whether a worker's event loop still turns: its supervisor asks, and a loop that turns answers at once.

A loop that hangs accepts nothing, and yet its process lives: the kernel keeps its connections, those of nodes too.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable

from raymart_graphql.operator.control import ASK, ENDED, PACKET_BYTES_MAX

STEPS = 5
"""Looks within the patience."""
LATE = 2.0
"""A step that takes so many times its length has kept the supervisor waiting as well: the machine was suspended, or is
so busy that nothing can be said of the worker."""


async def sleep_measured(step_s: float) -> float:
    """Sleep; returns how long it took, in seconds."""
    begun = time.monotonic()
    await asyncio.sleep(step_s)
    return time.monotonic() - begun


async def falls_silent(
    control: socket.socket,
    *,
    patience_s: float,
    sleep: Callable[[float], Awaitable[float]] = sleep_measured,
) -> bool:
    """Wait until the worker at the other end of `control` has left a question open for `patience_s`.

    False when it has closed its end instead, as one does that ends. Only time in which this process itself was punctual
    counts. `control` does not block, and nobody else reads it.
    """
    step_s = patience_s / STEPS
    silent_steps, is_asked = 0, False
    while silent_steps < STEPS:
        if not is_asked:
            is_asked = _ask(control)
        slept_s = await sleep(step_s)
        said = _read(control)
        if said == ENDED:
            return False
        if said is not None:
            silent_steps, is_asked = 0, False
        elif slept_s > step_s * LATE:
            silent_steps = 0
        else:
            silent_steps += 1
    return True


def _ask(control: socket.socket) -> bool:
    with contextlib.suppress(OSError):  # One that is gone is seen by `_read`.
        control.send(ASK)
    return True


def _read(control: socket.socket) -> bytes | None:
    """What the worker said; None when it said nothing."""
    try:
        return control.recv(PACKET_BYTES_MAX)
    except BlockingIOError:
        return None
    except OSError:
        return ENDED
