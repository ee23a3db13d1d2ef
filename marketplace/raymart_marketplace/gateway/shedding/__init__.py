"""Overload: who may start now, who waits, and who is told to come again."""
