"""Loaders of people, organizations, projects and keys."""

from sqlalchemy import Select

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
        self.api_keys_of_organization = self._pages(
            API_KEYS, accounts.Project.organization_id, joined=_join_project
        )


PROJECTS = Listing(name="projects", entity=accounts.Project, key=accounts.Project.id, show=Project.of)
API_KEYS = Listing(
    name="api_keys", entity=accounts.ApiKey, key=accounts.ApiKey.id, show=ApiKey.of, newest_first=True
)


def _join_project(statement: Select[accounts.ApiKey]) -> Select[accounts.ApiKey]:
    return statement.join(accounts.Project, accounts.Project.id == accounts.ApiKey.project_id)
