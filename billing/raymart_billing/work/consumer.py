"""The workers' own part of Celery, which imports it all: apart from `broker`, because the API only publishes."""

from typing import ClassVar

from celery.worker.consumer import Consumer


class WorkConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer without delayed delivery: it declares 28 queues for delays, and we use none."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]  # as above
        """The same steps, but one."""

        default_steps: ClassVar[list[str]] = [
            step for step in Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]
