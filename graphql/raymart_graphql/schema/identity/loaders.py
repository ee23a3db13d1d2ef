"""Loaders of people, organizations, projects and keys."""

from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.identity.types import ApiKey, Organization, Project, User
from raymart_marketplace.accounts import models as accounts


class IdentityLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.user = self._known(accounts.User, User.of)
        self.organization = self._known(accounts.Organization, Organization.of)
        self.project = self._known(accounts.Project, Project.of)
        self.api_key = self._known(accounts.ApiKey, ApiKey.of)
        self.projects_of_organization = self._pages(PROJECTS, accounts.Project.organization_id)


PROJECTS = Listing(name="projects", entity=accounts.Project, key=accounts.Project.id, show=Project.of)
