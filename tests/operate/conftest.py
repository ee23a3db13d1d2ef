"""A database of its own for each test that seeds or migrates one."""

from support.empty_database import empty_database_url

__all__ = ["empty_database_url"]
