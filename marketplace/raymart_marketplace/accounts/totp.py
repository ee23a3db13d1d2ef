"""Time-based one-time passwords: six digits, thirty seconds, SHA-1, as every authenticator app makes them.

Our own lines rather than a library's: refusing a code that was used needs to know *which* step it belongs to, which
pyotp's `verify` does not tell. Source: RFC 6238 and RFC 4226; `tests` hold their vectors.
"""

import base64
import hmac
import secrets
from datetime import datetime
from urllib.parse import quote, urlencode

STEP_S = 30
DIGITS = 6
SECRET_BYTES = 20
"""As long as the hash, which RFC 4226, 4, asks for."""
WINDOW = 1
"""Steps before and after the present one that are accepted: clocks differ, and people type slowly."""


def new_secret() -> bytes:
    """A fresh shared secret."""
    return secrets.token_bytes(SECRET_BYTES)


def step_at(moment: datetime) -> int:
    """The number of the step that `moment` falls into."""
    return int(moment.timestamp()) // STEP_S


def code_of(secret: bytes, step: int) -> str:
    """The code of a step. Source: RFC 4226, 5.3, dynamic truncation."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def matching_step(secret: bytes, code: str, *, now: datetime) -> int | None:
    """The step within the window whose code this is; None when there is none. Takes the same time either way."""
    present, found = step_at(now), None
    for step in range(present - WINDOW, present + WINDOW + 1):
        if hmac.compare_digest(code_of(secret, step).encode(), code.encode("utf-8", "replace")):
            found = step
    return found


def otpauth_uri(secret: bytes, *, issuer: str, account: str) -> str:
    """What the QR code for an authenticator app says. Source: Google Authenticator's Key URI Format."""
    label = quote(f"{issuer}:{account}", safe="")
    # An app that cannot do without a default would not be helped by saying it: digits and period are the usual ones.
    return f"otpauth://totp/{label}?{urlencode({'secret': spelt(secret), 'issuer': issuer})}"


def spelt(secret: bytes) -> str:
    """The secret as people type it: base32 without padding."""
    return base64.b32encode(secret).decode().rstrip("=")
