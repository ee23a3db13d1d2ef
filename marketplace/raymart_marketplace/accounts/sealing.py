"""Secrets at rest: AES-256-GCM under keys from the settings, bound to what they are for.

The first key seals; all of them open, so that a key is replaced by putting a new one in front and dropping the old one
when nothing sealed with it is left. What is sealed for one purpose or person opens for no other.

Source: NIST SP 800-38D; 96-bit random nonces, good for 2^32 seals of one key.
"""

import hashlib
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from raymart_marketplace.accounts.derived_keys import derived_key

_ID_BYTES = 4
_NONCE_BYTES = 12


class SecretBox:
    """Seals and opens."""

    def __init__(self, key_texts: Sequence[bytes]) -> None:
        """`key_texts`: at least 32 random bytes each, the one that seals first."""
        assert key_texts, "no key to seal with"
        keys = [derived_key(each, purpose="sealed secrets") for each in key_texts]
        self._sealing = _id(keys[0])
        self._keys = {_id(key): AESGCM(key) for key in keys}

    def seal(self, content: bytes, *, purpose: str) -> bytes:
        """`content`, sealed with the first key."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._sealing + nonce + self._keys[self._sealing].encrypt(nonce, content, purpose.encode())

    def open(self, sealed: bytes, *, purpose: str) -> bytes:
        """What was sealed for `purpose`. Raises: ValueError when it was not, or with a key that is gone."""
        key = self._keys.get(sealed[:_ID_BYTES])
        if key is None:
            raise ValueError("sealed with a key that is not in the settings any more")
        nonce = sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        try:
            return key.decrypt(nonce, sealed[_ID_BYTES + _NONCE_BYTES :], purpose.encode())
        except InvalidTag:
            raise ValueError("not sealed by us for this") from None

    def is_outdated(self, sealed: bytes) -> bool:
        """Whether it was sealed with another key than the first; seal it anew when it is at hand."""
        return not sealed.startswith(self._sealing)


def _id(key: bytes) -> bytes:
    """Names a key in what it sealed, and says nothing of it."""
    return hashlib.sha256(b"raymart key id" + key).digest()[:_ID_BYTES]
