"""A part of the stack: one program, what it needs, when it is ready, how it stops."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from raymart_local.program import Program

ReadyCheck = Callable[[], Awaitable[bool]]
"""Asked several times a second while the part starts; never raises."""

CHECK_TIMEOUT_S = 2.0


async def _runs() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One supervised program.

    A "service" runs until it is stopped; a "task" (migrations, seed) runs to its end, and status 0 is ready.
    """

    name: str
    """Also the name of its log: `<name>.log`."""
    program: Callable[[], Program]
    """Called in a thread right before each start, so that it may prepare (make a cluster, choose a port)."""
    shows_log: bool = True
    """Whether warnings of its log also appear on the console."""
    needs: tuple[str, ...] = ()
    """Parts that are ready before this one starts, and that stop after it."""
    kind: Literal["service", "task"] = "service"
    is_ready: ReadyCheck = _runs
    ready_log_line: str | None = None
    """Text that its log must also contain since its start, for programs that can be asked in no other way."""
    ready_timeout_s: float = 120.0
    starts_max: int = 1
    """Tries before the first time that it is ready."""
    if_it_dies: Literal["restart", "end the stack"] = "restart"
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0
    """After this long SIGKILL, for it and all of its session."""


def answers_http(url: str) -> ReadyCheck:
    """Ready when `GET url` is 200."""

    async def check() -> bool:
        try:
            async with httpx.AsyncClient(timeout=CHECK_TIMEOUT_S, trust_env=False) as client:
                return (await client.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return check


def file_exists(path: Path) -> ReadyCheck:
    """Ready when `path` exists."""

    async def check() -> bool:
        return await asyncio.to_thread(path.exists)

    return check


def says_yes(question: Callable[[], bool]) -> ReadyCheck:
    """Ready when the blocking `question`, asked in a thread, says so."""

    async def check() -> bool:
        return await asyncio.to_thread(question)

    return check
