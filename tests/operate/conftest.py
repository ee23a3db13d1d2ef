"""A database of its own for each test that seeds, migrates or spoils one."""

from support.empty_database import empty_database_url
from support.sealed_books import books_template, sound_url

__all__ = ["books_template", "empty_database_url", "sound_url"]
