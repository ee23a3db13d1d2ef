"""How long replicas take from being asked for to being ready. Nobody is billed for it; it is measured to be shown."""

from collections.abc import Collection


class ColdStarts:
    """Watches the replica counts of each placement. Times are in seconds on one clock that never goes back."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._asked_at: dict[str, float] = {}
        self._took_ms: dict[str, int] = {}

    def asked(self, placement_id: str, *, now: float) -> None:
        """A replica is wanted from now on where there is none; a repeat keeps the first time."""
        if not self._running.get(placement_id):
            self._asked_at.setdefault(placement_id, now)

    def seen(self, placement_id: str, *, running: int, starting: int, now: float) -> int | None:
        """Note what runs and what loads; how long the last start took in milliseconds, None before the first."""
        before = self._running.get(placement_id, 0)
        self._running[placement_id] = running
        if running > before:
            asked_at = self._asked_at.pop(placement_id, None)
            if asked_at is not None:
                self._took_ms[placement_id] = max(0, round((now - asked_at) * 1_000))
        if starting:
            self._asked_at.setdefault(placement_id, now)
        elif running:
            # Without one that loads, what was asked for is there; while none runs it is still waited for.
            self._asked_at.pop(placement_id, None)
        return self._took_ms.get(placement_id)

    def keep(self, placement_ids: Collection[str]) -> None:
        """Forget all others."""
        for kept in (self._running, self._asked_at, self._took_ms):
            for gone in kept.keys() - set(placement_ids):
                del kept[gone]
