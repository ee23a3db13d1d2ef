"""Loaders of background work."""

from raymart_billing.work import models as work
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.work.types import OutboxItem, TaskRun


class WorkLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.item = self._known(work.OutboxItem, OutboxItem.of)
        self.run = self._known(work.TaskRun, TaskRun.of)
