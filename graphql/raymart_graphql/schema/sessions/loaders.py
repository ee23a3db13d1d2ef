"""Loaders of sessions."""

from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.sessions.types import Session
from raymart_marketplace.accounts.session_models import UserSession


class SessionLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.session = self._known(UserSession, Session.of)
