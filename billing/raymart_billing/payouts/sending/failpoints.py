"""Named places where the chaos harness may kill a sending process. Off, and free, unless the environment names one.

`RAYMART_PAYOUT_FAILPOINTS` is a list such as `after_broadcast`, `before_settle:0.1,after_settle:0.5` or `*:0.02`: a
name and the chance that the process is killed there by SIGKILL, 1 unless given. No process of the product sets it.
"""

import os
import random
import signal
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from raymart_core.settings import ProcessSettings

EVERYWHERE = "*"


class Failpoint(StrEnum):
    """Where a process may end. Between any two of them it holds that what was committed is enough to go on."""

    AFTER_CLAIM = "after_claim"
    """Parts are leased; nothing was asked of the chain."""
    BEFORE_ATTEMPT_COMMIT = "before_attempt_commit"
    """An attempt is signed and its row written, not committed."""
    AFTER_ATTEMPT_COMMIT = "after_attempt_commit"
    """The attempt's row is committed; no endpoint has its bytes."""
    AFTER_BROADCAST = "after_broadcast"
    """The endpoints have the bytes; no row says so."""
    AFTER_REBROADCAST = "after_rebroadcast"
    """The same bytes were sent again."""
    AFTER_QUARANTINE = "after_quarantine"
    """A payee is quarantined; the marker of its part is not burnt yet."""
    BEFORE_SETTLE = "before_settle"
    """The landing is proven; nothing of it is written."""
    BEFORE_SETTLE_COMMIT = "before_settle_commit"
    """Ledger, items, part and successor are written, not committed."""
    AFTER_SETTLE = "after_settle"
    """All of that is committed; the lease is still held."""
    AFTER_RECLAIM_BROADCAST = "after_reclaim_broadcast"
    """The rent of paid markers was asked back; no row says so."""


class Failpoints(Protocol):
    """What the engine calls at each named place."""

    def hit(self, place: Failpoint) -> None:
        """Return, or never return."""


class NoFailpoints:
    """Production: nothing happens anywhere."""

    def hit(self, place: Failpoint) -> None:
        """Return."""


class FailpointSettings(ProcessSettings):
    """What the environment of a test process says."""

    payout_failpoints: Annotated[Mapping[str, float], NoDecode] = Field(default_factory=dict)
    """Chance by name of the place."""

    @field_validator("payout_failpoints", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parted = (entry.strip().partition(":") for entry in value.split(",") if entry.strip())
        return {name.strip(): chance or 1.0 for name, _, chance in parted}

    @field_validator("payout_failpoints")
    @classmethod
    def _know(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        unknown = value.keys() - set(Failpoint) - {EVERYWHERE}
        if unknown:
            raise ValueError(f"no failpoint is named {sorted(unknown)}; there are {', '.join(Failpoint)}")
        if not all(0.0 <= chance <= 1.0 for chance in value.values()):
            raise ValueError(f"a chance is 0 to 1, not {dict(value)}")
        return value


class KillingFailpoints:
    """Kills this process at a place with the chance that was given for it, or for everywhere."""

    def __init__(self, chances: Mapping[str, float], *, kill: Callable[[], None]) -> None:
        self._chances = chances
        self._kill = kill
        # Of its own: a process that seeds the global generator must not make its deaths repeat.
        self._random = random.Random(os.urandom(16))  # noqa: S311 - decides when a test process dies

    def hit(self, place: Failpoint) -> None:
        """Perhaps kill the process."""
        chance = self._chances.get(place, self._chances.get(EVERYWHERE, 0.0))
        if self._random.random() < chance:
            self._kill()


def open_failpoints(settings: FailpointSettings) -> Failpoints:
    """Those that the environment names; none in production."""
    if not settings.payout_failpoints:
        return NoFailpoints()
    return KillingFailpoints(settings.payout_failpoints, kill=_kill_self)


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
