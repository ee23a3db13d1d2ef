"""What a conformance check is, and how it says that an engine fails it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raymart_core.errors import RaymartError

if TYPE_CHECKING:
    from raymart_serve.conformance.rig import Rig


class Nonconformance(RaymartError):
    """The engine does not keep the promise that a check is about; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise of `engines.protocol`, and how to see whether it is kept."""

    name: str
    promise: str
    """The promise in one sentence."""
    run: Callable[["Rig"], Awaitable[None]]
    """Raises: Nonconformance."""

    def __str__(self) -> str:
        return self.name


def check(run: Callable[["Rig"], Awaitable[None]]) -> Check:
    """Make a check of a coroutine function: its name, and the first line of its docstring as the promise."""
    promise = (run.__doc__ or "").strip().partition("\n")[0]
    assert promise, f"{run.__name__} must say what it checks"
    return Check(name=run.__name__, promise=promise, run=run)


def require(holds: object, why: str) -> None:
    """Go on when `holds`. Raises: Nonconformance with `why`."""
    if not holds:
        raise Nonconformance(why)
