"""A database of this folder's own: epochs are the whole market's, and document numbers a series."""

from support.own_database import database_url, owner_url

__all__ = ["database_url", "owner_url"]
