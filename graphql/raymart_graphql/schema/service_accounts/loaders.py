"""Loaders of service accounts."""

from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.service_accounts.types import ServiceAccount
from raymart_marketplace.accounts import models as accounts

SERVICE_ACCOUNTS = Listing(
    name="service_accounts",
    entity=accounts.ServiceAccount,
    key=accounts.ServiceAccount.id,
    show=ServiceAccount.of,
)


class ServiceAccountLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.account = self._known(accounts.ServiceAccount, ServiceAccount.of)
        self.of_organization = self._pages(SERVICE_ACCOUNTS, accounts.ServiceAccount.organization_id)
