"""Prompts and completions that keys ask to be kept."""
