"""What signs: one interface, so that the treasury's key may lie in a file, a KMS or a vault."""

from typing import Protocol

from solders.pubkey import Pubkey
from solders.signature import Signature


class Signer(Protocol):
    """Signs messages with one key. It signs them as they are and never sends anything."""

    @property
    def address(self) -> Pubkey:
        """The public key."""
        ...

    async def sign(self, message: bytes) -> Signature:
        """A valid signature of `message`. Raises: SigningRefused, RpcError's cousin `Unavailable` when the key's keeper is away."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...
