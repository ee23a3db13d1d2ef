"""Background work in a test's own process: a worker with the tasks that a test wants, and one sweep."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from raymart_billing.work import Context, Periodic, Task
from raymart_billing.work.context import Resources
from raymart_billing.work.process import open_resources
from raymart_billing.work.registry import by_name, collect
from raymart_billing.work.sweep import sweep_of
from raymart_billing.work.worker import Worker
from raymart_core.ids import new_id
from raymart_marketplace.settings import ControlSettings

SECRET = "0123456789abcdef0123456789abcdef"


def control_settings(database_url: str, **changes: object) -> ControlSettings:
    """Settings with `database_url` and a broker that nobody listens at, unless `changes` name one."""
    values: dict[str, object] = {
        "database_url": database_url,
        "broker_url": "redis://127.0.0.1:1/0",
        "redis_url": "redis://127.0.0.1:1/0",
        "token_secret": SECRET,
    }
    return ControlSettings(**{**values, **changes})


@asynccontextmanager
async def running_worker(
    database_url: str, *, tasks: Sequence[Task] = (), periodics: Sequence[Periodic] = (), **changes: object
) -> AsyncIterator[Worker]:
    """A worker of just these tasks and periodics."""
    async with open_resources(control_settings(database_url, **changes)) as resources:
        worker = Worker(resources, by_name(tasks, periodics))
        try:
            yield worker
        finally:
            await worker.close()


async def sweep_once(database_url: str, **changes: object) -> None:
    """Run every step of the sweep, in order. Raises: what a step raises."""
    async with open_resources(control_settings(database_url, **changes)) as resources:
        await sweep_of(collect().sweep_steps, every_s=1.0).handle(a_context(resources))


def a_context(resources: Resources) -> Context:
    """What a periodic's handler gets, without a run behind it."""
    return Context(resources, run_id=new_id(), fence=1)
