"""argon2 beside the event loop, a bounded number at once: each takes 19 MiB and 25 ms of a core.

Without the bound a burst of log-ins would take all cores from the streams of this process, and its memory too.
"""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from raymart_core.errors import Overloaded
from raymart_marketplace.accounts.passwords import hash_password, verify_password

WAITING_MAX = 128
"""Tries that wait for their turn; about two seconds' worth of two cores."""


class PasswordWork:
    """Hashes and verifies passwords. One per process; for one event loop. Close it."""

    def __init__(self, *, at_once_max: int | None = None, waiting_max: int = WAITING_MAX) -> None:
        """At most `at_once_max` run (one less than there are cores unless given), and `waiting_max` wait."""
        workers = at_once_max or max(1, (os.cpu_count() or 2) - 1)
        # Threads start when they are needed; argon2 lets go of the interpreter while it works.
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="argon2")
        self._room = workers + waiting_max
        self._inside = 0

    async def hash(self, password: str) -> str:
        """As `passwords.hash_password`. Raises: InvalidRequest, Overloaded."""
        with self._place():
            return await asyncio.get_running_loop().run_in_executor(self._threads, hash_password, password)

    async def verify(self, password: str, password_hash: str) -> bool:
        """As `passwords.verify_password`. Raises: Overloaded."""
        with self._place():
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, verify_password, password, password_hash
            )

    def close(self) -> None:
        """Let what runs end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of those inside. Raises: Overloaded when there is no room."""
        if self._inside >= self._room:
            raise Overloaded("too many people log in at this moment; try again", retry_after_s=1)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
