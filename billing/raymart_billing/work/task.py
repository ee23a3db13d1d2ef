"""What a part of billing declares in its `tasks.py`: tasks, periodics, and steps of the sweep."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from raymart_billing.work.context import Context, TaskContext

TIMEOUT_S_MAX = 300.0
"""Longest run of a task or periodic. What needs longer does a part, and enqueues the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Work that an outbox row asks for. `handle(context, subject)` must be safe to run twice.

    A run that raises is repeated after `backoff_s_min`, doubling up to `backoff_s_max`; after `attempts_max` runs, or
    when it raises `GiveUp`, the row is dead: it keeps its last error and waits for an operator.
    """

    name: str
    """Part and verb: "invoices.draft"."""
    handle: Callable[[TaskContext, str], Awaitable[None]]
    timeout_s: float = 60.0
    attempts_max: int = 12
    """With the default pauses, about an hour and a half."""
    backoff_s_min: float = 1.0
    backoff_s_max: float = 900.0

    def __post_init__(self) -> None:
        assert 0 < self.timeout_s <= TIMEOUT_S_MAX, f"{self.name}: timeout of {self.timeout_s} s"
        assert self.attempts_max >= 1, f"{self.name}: {self.attempts_max} attempts"
        assert 0 < self.backoff_s_min <= self.backoff_s_max, f"{self.name}: backoff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """Work that is due again and again: at most one run at a time over all workers, and none that pile up."""

    name: str
    handle: Callable[[Context], Awaitable[None]]
    every_s: float
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        assert self.every_s > 0, f"{self.name}: every {self.every_s} s"
        assert 0 < self.timeout_s <= TIMEOUT_S_MAX, f"{self.name}: timeout of {self.timeout_s} s"


class SweepStage(IntEnum):
    """Where a step has its place in the sweep: what was used is found and posted before anything is given back."""

    DRAIN_SPILL = 10
    """Records written while Postgres was away; first, for a whole record beats its request's last checkpoint."""
    RECOVER_CHECKPOINTS = 20
    """Records of requests whose gateway died."""
    POST_USAGE = 30
    """Usage into transfers."""
    EXPIRE_LEASES = 40
    EXPIRE_HOLDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStep:
    """One step of the periodic "sweep"; all run in order of their stage, one after the other.

    A step that raises ends the sweep there: a later one must not give back what an earlier one could not yet take.
    """

    stage: SweepStage
    run: Callable[[Context], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Everything that some parts declare."""

    tasks: Sequence[Task] = ()
    periodics: Sequence[Periodic] = ()
    sweep_steps: Sequence[SweepStep] = ()
