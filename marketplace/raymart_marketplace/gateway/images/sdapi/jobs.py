"""What each customer's key is making at the moment, for `/progress` and `/interrupt`.

Of this process alone: with several, a client sees what is made by the one that it reaches.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from raymart_core import clock
from raymart_marketplace.accounts.caller import Caller


@dataclass(slots=True)
class Job:
    """One request for pictures while it runs."""

    pictures: int
    step: int = 0
    of: int = 0
    interrupted: bool = False
    """Whether it is to end at its next step."""
    started_at: datetime = field(default_factory=clock.now)
    begun_at: float = field(default_factory=time.monotonic)

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return self.step / self.of if self.of else 0.0

    @property
    def left_s(self) -> float:
        """Seconds that it may still take, judged by those it took."""
        share = self.share
        return (time.monotonic() - self.begun_at) * (1 - share) / share if share else 0.0


class Jobs:
    """Running jobs by who asked."""

    def __init__(self) -> None:
        self._jobs: dict[UUID, list[Job]] = {}

    @contextmanager
    def running(self, caller: Caller, *, pictures: int) -> Iterator[Job]:
        """Count a job for as long as it runs."""
        owner, job = owner_of(caller), Job(pictures)
        self._jobs.setdefault(owner, []).append(job)
        try:
            yield job
        finally:
            jobs = self._jobs[owner]
            jobs.remove(job)
            if not jobs:
                del self._jobs[owner]

    def of(self, caller: Caller) -> list[Job]:
        """What runs for `caller`, the oldest first: one after the other for AUTOMATIC1111, side by side here."""
        return self._jobs.get(owner_of(caller), [])


def owner_of(caller: Caller) -> UUID:
    """Whose jobs and options: those of a key, or of a person."""
    owner = caller.api_key_id or caller.user_id
    assert owner is not None, "a caller is a key or a person"
    return owner
