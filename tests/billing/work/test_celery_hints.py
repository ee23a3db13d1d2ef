"""Hints: given at once, whatever the broker does."""

import time

from raymart_billing.work.celery_hints import WAITING_MAX, CeleryHints
from raymart_core.ids import new_id


class TestCeleryHints:
    def test_a_broker_that_is_away_holds_up_nobody(self):
        """Nobody listens on port 1, and more is given than may wait."""
        hints = CeleryHints("redis://127.0.0.1:1/0")
        hints.start()
        begun = time.monotonic()
        for _ in range(3 * WAITING_MAX):
            hints.give(new_id())
        assert time.monotonic() - begun < 20
        hints.close()
        assert not hints._thread.is_alive()
