"""A gateway stays present through an outage, and says once that it is not."""

import asyncio

import structlog

from raymart_billing.holds.presence import GatewayPresence
from raymart_core.ids import new_id


async def test_an_outage_is_one_line_of_the_log_however_often_it_tries():
    """Nothing listens on port 1. It tries about ten times in this time."""
    presence = GatewayPresence(
        "postgresql://raymart@127.0.0.1:1/raymart",
        new_id(),
        on_recall=lambda _: None,
        on_absence_over=lambda: None,
    )
    with structlog.testing.capture_logs() as events:
        trying = asyncio.create_task(presence.run())
        await asyncio.sleep(1)
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)
    assert [event["event"] for event in events] == ["gateway.absent"]
