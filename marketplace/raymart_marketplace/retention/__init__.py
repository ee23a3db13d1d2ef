"""Prompts and completions that a key's owner wants kept for some days; without that wish, nothing of them is stored."""
