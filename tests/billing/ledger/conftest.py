"""Sealed books of a test's own."""

from support.sealed_books import books_template, sound, sound_books, sound_url

__all__ = ["books_template", "sound", "sound_books", "sound_url"]
