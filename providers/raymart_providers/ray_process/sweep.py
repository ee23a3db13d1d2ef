"""Finds and ends the processes of one machine's Ray by the mark in their environment: never by name, never others'.

A raylet that is killed leaves its agents behind, and their replicas run on until they notice (facts: seam, section 1).
"""

import os
import time

import psutil
import structlog

from raymart_providers.ray_process.command import MARK

log = structlog.get_logger()

_GONE_TIMEOUT_S = 5.0
_POLL_S = 0.02


def marked(mark: str) -> list[psutil.Process]:
    """This user's processes whose environment carries `mark`, this one not counted. Reads /proc: blocks for a while."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # Another user's, or gone while it was looked at.
    return found


def sweep(mark: str) -> int:
    """Kill every marked process, those they start meanwhile included; how many there were. Blocks."""
    killed = 0
    while processes := marked(mark):
        for process in processes:
            try:
                process.kill()
                killed += 1
            except psutil.NoSuchProcess:
                continue
        deadline = time.monotonic() + _GONE_TIMEOUT_S
        while any(map(lives, processes)):
            if time.monotonic() > deadline:
                log.warning("ray.unkillable", pids=[process.pid for process in processes if lives(process)])
                return killed
            time.sleep(_POLL_S)
    return killed


def lives(process: psutil.Process) -> bool:
    """Whether `process` still runs. Never waits for it as a parent would: that is the event loop's, which started it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
