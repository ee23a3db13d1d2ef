"""Placements whose replicas die again and again are left alone for a while, each time for longer.

Serve starts a replica that died anew, for ever and at once: a model that brings its engine down with its first request, or
does not fit into memory, would load its weights around the clock. A replica that dies within `YOUNG_S` of running counts
against its placement; after `DEATHS` of these in a row the placement is withdrawn from Serve for a pause that doubles up to
`PAUSE_S_MAX`. One replica that lives longer clears it of all that.

Source: the delays are those of Kubernetes' CrashLoopBackOff (10 s doubling to minutes).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from raymart_core.clock import Clock, SystemClock

YOUNG_S = 60.0
"""A replica that ran for this long was not brought down by its start."""
DEATHS = 3
"""Young deaths in a row before the first pause; afterwards each is followed by one."""
PAUSE_S = 10.0
PAUSE_S_MAX = 600.0
_LEAVING = frozenset({"STOPPING"})
_RUNNING = frozenset({"RUNNING"})


@dataclass(slots=True, kw_only=True)
class _Record:
    """What is known of one placement."""

    living: dict[str, float | None] = field(default_factory=dict)
    """Since when each replica has been running, by its id; None while it loads."""
    target: int = 0
    deaths: int = 0
    young_in_a_row: int = 0
    pauses: int = 0
    paused_until: float | None = None
    message: str = ""
    """Serve's last words about a failure."""
    reason: str = ""
    """Of the pause."""


class CrashLoops:
    """Watches the replicas of all placements. Times are `time.monotonic()`'s, in seconds."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock` tells people when the next try is."""
        self._clock = clock or SystemClock()
        self._records: dict[str, _Record] = {}

    def keep(self, placement_ids: Collection[str]) -> None:
        """Forget all other placements."""
        self._records = {name: self._records.get(name, _Record()) for name in placement_ids}

    def changed(self, placement_id: str) -> None:
        """The placement is another one now: its replicas will be replaced, and what it did is forgiven."""
        self._records[placement_id] = _Record()

    def seen(
        self, placement_id: str, *, replicas: Mapping[str, str], target: int, message: str, now: float
    ) -> None:
        """Serve has these replicas (state by id) and wants `target`; `message` is what it says of a failure."""
        record = self._records.setdefault(placement_id, _Record())
        if record.paused_until is not None:
            return
        record.message = message or record.message
        living = {name for name, state in replicas.items() if state not in _LEAVING}
        # A smaller target takes replicas away that nothing was wrong with.
        expected = max(0, record.target - target)
        record.target = target
        for name in [name for name in record.living if name not in living]:
            since = record.living.pop(name)
            if expected:
                expected -= 1
            else:
                self._died(record, ran_s=0.0 if since is None else now - since)
        for name in living:
            if record.living.setdefault(name, None) is None and replicas[name] in _RUNNING:
                record.living[name] = now
        if any(since is not None and now - since >= YOUNG_S for since in record.living.values()):
            record.young_in_a_row = record.pauses = 0
        if record.young_in_a_row >= DEATHS:
            self._pause(record, now)

    def restarts(self, placement_id: str) -> int:
        """Replicas of the placement that died."""
        record = self._records.get(placement_id)
        return record.deaths if record is not None else 0

    def paused(self, *, now: float) -> Mapping[str, str]:
        """Placements to leave alone, and why. One whose pause is over is not among them any more."""
        for record in self._records.values():
            if record.paused_until is not None and now >= record.paused_until:
                record.paused_until, record.reason = None, ""
                record.living.clear()
                record.target = 0
                # One more death is enough for the next pause.
                record.young_in_a_row = DEATHS - 1
        return {
            name: record.reason for name, record in self._records.items() if record.paused_until is not None
        }

    @staticmethod
    def _died(record: _Record, *, ran_s: float) -> None:
        record.deaths += 1
        if ran_s < YOUNG_S:
            record.young_in_a_row += 1
        else:
            record.young_in_a_row = 0

    def _pause(self, record: _Record, now: float) -> None:
        # The exponent is capped before the power, or weeks of failures would overflow a float.
        pause_s = min(PAUSE_S_MAX, PAUSE_S * 2.0 ** min(record.pauses, 10))
        record.pauses += 1
        record.paused_until = now + pause_s
        again = self._clock.now() + timedelta(seconds=pause_s)
        record.reason = (
            f"crash loop: {record.deaths} replicas died soon after their start; next try at {again:%H:%M:%S} UTC"
            f"{f', last: {record.message}' if record.message else ''}"
        )
