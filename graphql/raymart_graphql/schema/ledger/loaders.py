"""Loaders of the books."""

from raymart_billing.ledger import models as ledger
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.admin.types import LedgerAccount, Transfer


class LedgerLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.account = self._numbered(ledger.LedgerAccount, LedgerAccount.of)
        self.transfer = self._numbered(ledger.Transfer, Transfer.of)
