"""Loaders of budgets."""

from uuid import UUID

from strawberry.dataloader import DataLoader

from raymart_billing.budgets import BudgetScope, budgets_of_scopes
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.budgets.types import Budget


class BudgetLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.budgets_of_scope: DataLoader[tuple[BudgetScope, UUID], list[Budget]] = DataLoader(
            load_fn=self._budgets
        )

    async def _budgets(self, keys: list[tuple[BudgetScope, UUID]]) -> list[list[Budget]]:
        """One statement per kind of scope."""
        found: dict[tuple[BudgetScope, UUID], list[Budget]] = {key: [] for key in keys}
        async with self._reading.session() as session:
            for scope in {scope for scope, _ in keys}:
                scope_ids = [scope_id for each, scope_id in keys if each is scope]
                for standing in await budgets_of_scopes(session, scope, scope_ids):
                    found[scope, standing.scope_id].append(Budget.of(standing))
        return [found[key] for key in keys]
