"""The deadline that a client sets itself: `x-raymart-deadline-ms`, milliseconds from when the request arrives, or the
body's `timeout` in seconds; of both the shorter.

It only ever shortens the marketplace's own. What is left of it goes to the replica with each attempt, so that no hop works
on what nobody waits for any more; a request that could not be served within it is refused before it costs anything.
"""

from collections.abc import Sequence

from starlette.types import Scope

from raymart_core.errors import DeadlineExceeded, InvalidRequest
from raymart_marketplace.gateway.body import header
from raymart_marketplace.gateway.deadline import Patience
from raymart_marketplace.supply.live import LiveEndpoint

DEADLINE_HEADER = b"x-raymart-deadline-ms"
DEADLINE_MS_MAX = 24 * 3600 * 1000
SERVICE_S_MIN = 0.01
"""Nothing is ever served in less."""


def asked_deadline_s(scope: Scope, timeout_s: float | None = None) -> float | None:
    """Seconds; None when the client sets none; `timeout_s` is what its body says. Raises: InvalidRequest."""
    given = header(scope, DEADLINE_HEADER)
    if given is None:
        return timeout_s
    name = DEADLINE_HEADER.decode()
    if not given.isdigit() or len(given) > 8 or not 0 < int(given) <= DEADLINE_MS_MAX:
        raise InvalidRequest(
            f"{name} is {given[:20]!r}; give whole milliseconds, 1 to {DEADLINE_MS_MAX}", param=name
        )
    deadline_s = int(given) / 1000
    return deadline_s if timeout_s is None else min(deadline_s, timeout_s)


def checked_timeout_s(timeout: float | None) -> float | None:
    """A body's `timeout`. Raises: InvalidRequest unless it is a time that is left."""
    if timeout is not None and not 0 < timeout <= DEADLINE_MS_MAX / 1000:
        raise InvalidRequest(
            f"timeout={timeout} is not above 0 and at most {DEADLINE_MS_MAX // 1000} seconds", param="timeout"
        )
    return timeout


def check_deadline(patience: Patience, plan: Sequence[LiveEndpoint]) -> None:
    """Refuse what no endpoint of `plan` can begin in time. Raises: DeadlineExceeded."""
    left_s = patience.left_s()
    if plan and left_s >= _least_s(plan[0]):  # Mostly the first can; the others are not even looked at.
        return
    least_s = min((_least_s(endpoint) for endpoint in plan), default=SERVICE_S_MIN)
    if left_s < least_s:
        raise DeadlineExceeded(
            f"{left_s * 1000:.0f} ms are left and the fastest endpoint needs about {least_s * 1000:.0f} ms; "
            "allow more time"
        )


def _least_s(endpoint: LiveEndpoint) -> float:
    """What it takes the endpoint to begin; half of what it took of late, which is a mean and no bound."""
    known_ms = endpoint.first_token_ms
    if known_ms is None or known_ms < 2000 * SERVICE_S_MIN:
        return SERVICE_S_MIN
    return known_ms / 2000
