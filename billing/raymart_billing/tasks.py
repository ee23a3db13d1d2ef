"""Background tasks. Each is idempotent, bounded in time, takes no state from its message and finds its work in rows.

Celery only hints: a task that is lost, late or run twice changes nothing that the next run does not put right.
"""

import asyncio

import structlog
from celery import Celery
from psycopg import AsyncConnection

from raymart_billing.connections import OUTAGE
from raymart_billing.holds.sweep import HOLDS_PER_SWEEP_MAX, sweep_holds
from raymart_billing.posting.post import sweep_usage
from raymart_marketplace.settings import ControlSettings

log = structlog.get_logger()

SWEEP = "billing.sweep"
SWEEP_TIMEOUT_S = 60.0


def register_tasks(app: Celery, settings: ControlSettings) -> None:
    """Make the tasks known to `app`; they work on the database of `settings`."""

    def sweep() -> None:
        """Post recorded usage that the gateway left, then void the holds whose time is over."""
        asyncio.run(sweep_once(settings.database_url))

    app.task(sweep, name=SWEEP)


async def sweep_once(database_url: str) -> None:
    """One sweep, usage first: a hold must not expire under a usage that could still be captured from it.

    An outage ends the sweep with a log line; the next one goes on. Any number of sweeps may run at once.
    """
    try:
        async with asyncio.timeout(SWEEP_TIMEOUT_S):
            connection = await AsyncConnection.connect(
                database_url, autocommit=True, connect_timeout=5, application_name="raymart-sweep"
            )
            async with connection:
                await sweep_usage(connection)
                while await sweep_holds(connection) == HOLDS_PER_SWEEP_MAX:
                    pass
    except OUTAGE as error:
        log.warning("sweep.interrupted", error=type(error).__name__)
