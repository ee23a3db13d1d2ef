"""Keys for one purpose each, made of the marketplace's one secret: what leaks of one says nothing of another."""

import hmac


def derived_key(secret: bytes, *, purpose: str) -> bytes:
    """32 bytes for `purpose`. Source: RFC 5869 (HKDF), the first block of its expansion.

    The extraction is left out: `secret` is random already (settings refuse one of less than 32 bytes).
    """
    return hmac.digest(secret, f"raymart {purpose}\x01".encode(), "sha256")
