"""Sealed books of a test's own."""

from support.sealed_books import sound, sound_books, sound_url

__all__ = ["sound", "sound_books", "sound_url"]
