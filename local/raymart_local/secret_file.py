"""Secrets that a stack makes for itself once and keeps in files only its owner can read."""

import os
import secrets
from pathlib import Path

SECRET_BYTES = 32


def secret_at(path: Path) -> str:
    """The secret in `path`, made on first use: 43 URL-safe characters, mode 0600, 32 bytes of randomness."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        secret = secrets.token_urlsafe(SECRET_BYTES)
        write_private(path, secret + "\n")
        return secret


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step, mode 0600 from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(path.name + ".staged")
    staged.unlink(missing_ok=True)
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    staged.rename(path)
