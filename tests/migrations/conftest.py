"""A database of its own for each test that takes a schema apart."""

from support.empty_database import empty_database_url

__all__ = ["empty_database_url"]
