"""A Celery application for worker processes of tests: the real one, but with tasks that count what they did.

`celery -A support.work_app worker`. Each effect is a row of `test_effect`, written in the transaction of "done" (or, for
`test.outside`, in one of its own, as an effect elsewhere would be).
"""

import asyncio
import os
import sys

from celery.signals import task_prerun
from sqlalchemy import text

from raymart_billing.celery_app import make_registry, serve
from raymart_billing.work import Context, Periodic, Task, TaskContext
from raymart_billing.work.registry import by_name
from raymart_marketplace.settings import ControlSettings

NOTE = text("insert into test_effect (task, subject, pid, fence) values (:task, :subject, :pid, :fence)")


async def note(session, context, task, subject):
    await session.execute(
        NOTE, {"task": task, "subject": subject, "pid": os.getpid(), "fence": context.fence}
    )


async def quick(context: TaskContext, subject: str) -> None:
    async with context.finishing() as session:
        await note(session, context, "test.quick", subject)


async def slow(context: TaskContext, subject: str) -> None:
    """Says that it has begun, then takes as many seconds as its subject says before the colon."""
    async with context.sessions() as session, session.begin():
        await note(session, context, "begun", subject)
    await asyncio.sleep(float(subject.partition(":")[0]))
    async with context.finishing() as session:
        await note(session, context, "test.slow", subject)


async def beat(context: Context) -> None:
    async with context.sessions() as session, session.begin():
        await note(session, context, "test.beat", "")


TASKS = [
    Task(name="test.quick", handle=quick),
    Task(name="test.slow", handle=slow),
]
PERIODICS = [Periodic(name="test.beat", handle=beat, every_s=1.0)]

_settings = ControlSettings()
_real = make_registry(_settings)
app = serve(_settings, by_name([*_real.tasks.values(), *TASKS], [*_real.periodics.values(), *PERIODICS]))
if "WORK_APP_VISIBILITY_S" in os.environ:
    app.conf.broker_transport_options = {
        "visibility_timeout": float(os.environ["WORK_APP_VISIBILITY_S"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }


@task_prerun.connect
def say_that_a_message_came(task, args, **_):
    """For tests that count deliveries."""
    sys.stderr.write(f"delivered {task.name} {args}\n")
