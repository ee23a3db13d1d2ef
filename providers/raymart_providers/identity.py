"""Who this machine is: its Ed25519 node key and the identity that the marketplace gave it."""

from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from raymart_providers.errors import UnsafeFile
from raymart_providers.private_file import read_private, write_private

Role = Literal["node", "controller"]
"""What this process proves itself as."""


class NodeKey:
    """The node's Ed25519 key. It never leaves this machine; the marketplace knows the public half."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def create(cls, path: Path) -> "NodeKey":
        """Make a fresh key and keep it at `path`, mode 0600, in one step."""
        key = Ed25519PrivateKey.generate()
        write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> "NodeKey":
        """Read the key. Raises: UnsafeFile when others may read it or it is no Ed25519 key; FileNotFoundError."""
        content = read_private(path)
        try:
            key = load_pem_private_key(content, password=None)
        except (ValueError, TypeError) as error:
            raise UnsafeFile(f"{path} holds no readable key ({error}); {_NEXT_STEP}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise UnsafeFile(f"{path} holds a {type(key).__name__}, not an Ed25519 key; {_NEXT_STEP}")
        return cls(key)

    @classmethod
    def load_or_create(cls, path: Path) -> "NodeKey":
        """Read the key, or make it when there is none. Raises: UnsafeFile."""
        try:
            return cls.load(path)
        except FileNotFoundError:
            return cls.create(path)

    @property
    def public_bytes(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def become(self, other: "NodeKey") -> None:
        """Everybody who holds this key holds `other` from now on: the marketplace has taken it in this one's place."""
        self._key = other._key  # noqa: SLF001 - of the same class

    def sign(self, transcript: bytes) -> bytes:
        """Ed25519 signature over `transcript`, 64 bytes."""
        return self._key.sign(transcript)


class Enrolment(msgspec.Struct, frozen=True):
    """The identity the marketplace gave to this machine's key."""

    node_id: str
    """node_<hex>."""
    name: str
    role: Role
    server: str
    """The server that enrolled it, as given at `join`."""


def load_enrolment(path: Path) -> Enrolment | None:
    """The kept identity, None when this machine has not enrolled. Raises: UnsafeFile."""
    try:
        content = read_private(path)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(content, type=Enrolment)
    except ValueError as error:
        raise UnsafeFile(f"{path} is damaged ({error}); {_NEXT_STEP}") from None


def keep_enrolment(path: Path, enrolment: Enrolment) -> None:
    """Keep the identity at `path`, mode 0600, in one step."""
    write_private(path, msgspec.json.encode(enrolment))


_NEXT_STEP = "restore it from a backup, or run `raymart-provider leave` and join with a new token"
