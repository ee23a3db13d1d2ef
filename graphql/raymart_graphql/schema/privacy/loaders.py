"""Loaders of exports."""

from raymart_billing.privacy import models
from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.privacy.types import PrivacyExport

EXPORTS = Listing(
    name="exports",
    entity=models.PrivacyExport,
    key=models.PrivacyExport.id,
    show=PrivacyExport.of,
    newest_first=True,
)


class PrivacyLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.exports_of_organization = self._pages(EXPORTS, models.PrivacyExport.organization_id)
