"""A database of its own for each test that seeds, migrates or spoils one."""

from support.empty_database import empty_database_url, migrated_database_url
from support.sealed_books import sound_url

__all__ = ["empty_database_url", "migrated_database_url", "sound_url"]
