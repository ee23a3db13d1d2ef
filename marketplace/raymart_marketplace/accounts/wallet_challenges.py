"""Challenges for wallets: each is one message with one nonce, good for one answer within five minutes.

They lie in Redis, under the nonce's hash, so that asking for many costs no row; without Redis no wallet can be proven
for the moment. Taking a challenge ends it, whatever comes of the answer: a wrong signature needs a new one.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from raymart_core.clock import Clock, SystemClock
from raymart_core.errors import NotAuthenticated, Unavailable
from raymart_marketplace.accounts.siws import (
    SignInMessage,
    check_signature,
    read_address,
    read_message,
)
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

CHALLENGE_TTL_S = 300
KEY = "raymart:wallet-challenge:"
PROOF_STATEMENT = "Prove to Raymart that the organization {slug} owns this wallet. This moves no money."
"""What a wallet signs to prove whose it is."""

_STALE = "this challenge is unknown, answered or older than five minutes; ask for another"
_AWAY = "wallets cannot be proven for the moment; try again in a second"


class WalletPurpose(StrEnum):
    """What a challenge is for; one for another purpose proves nothing."""

    PROOF = "proof"
    """That an organization owns the wallet."""
    LOGIN = "login"


class Challenge(msgspec.Struct, frozen=True):
    """What is kept of a challenge until it is answered."""

    text_hash: bytes
    """SHA-256 of the message: who reads Redis finds no nonce that could be answered."""
    purpose: WalletPurpose
    organization_id: UUID | None
    """None for a login."""
    user_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A challenge that its wallet has answered."""

    address: str
    organization_id: UUID | None
    user_id: UUID | None
    message: str
    signature: bytes


class WalletChallenges:
    """Makes and takes challenges. One per process."""

    def __init__(
        self, redis: Redis, *, domain: str, uri: str, chain_id: str, clock: Clock | None = None
    ) -> None:
        """Messages name `domain` and `uri`, where people know us, and the chain."""
        self._redis = redis
        self._domain = domain
        self._uri = uri
        self._chain_id = chain_id
        self._clock: Clock = clock or SystemClock()

    async def make(
        self,
        purpose: WalletPurpose,
        *,
        address: str,
        statement: str,
        request_id: str,
        organization_id: UUID | None = None,
        user_id: UUID | None = None,
    ) -> SignInMessage:
        """A message for the wallet `address` to sign. Raises: InvalidRequest, Unavailable without Redis."""
        now = self._clock.now().replace(microsecond=0)
        message = SignInMessage(
            domain=self._domain,
            address=read_address(address),
            statement=statement,
            uri=self._uri,
            chain_id=self._chain_id,
            nonce=secrets.token_hex(16),
            issued_at=now,
            expires_at=now + timedelta(seconds=CHALLENGE_TTL_S),
            request_id=request_id,
        )
        kept = Challenge(
            text_hash=_hash(message.text()), purpose=purpose, organization_id=organization_id, user_id=user_id
        )
        try:
            await self._redis.set(_key(message.nonce), msgspec.json.encode(kept), ex=CHALLENGE_TTL_S)
        except REDIS_AWAY as error:
            raise Unavailable(_AWAY) from error
        return message

    async def take(self, purpose: WalletPurpose, *, text: str, signature: str) -> Answered:
        """What the challenge `text` was made for, once; its wallet has signed it.

        Raises: InvalidRequest, NotAuthenticated for a challenge or signature that is not good, Unavailable without Redis.
        """
        message = read_message(text)
        try:
            found = await self._redis.getdel(_key(message.nonce))
        except REDIS_AWAY as error:
            raise Unavailable(_AWAY) from error
        if found is None:
            raise NotAuthenticated(_STALE, param="message")
        kept = msgspec.json.decode(found, type=Challenge)
        # All of the text, so that no field can differ from what was asked: domain, address, chain, times.
        if (
            kept.text_hash != _hash(text)
            or kept.purpose is not purpose
            or self._clock.now() >= message.expires_at
        ):
            raise NotAuthenticated(_STALE, param="message")
        return Answered(
            address=message.address,
            organization_id=kept.organization_id,
            user_id=kept.user_id,
            message=text,
            signature=check_signature(message, signature),
        )


def make_wallet_challenges(settings: ControlSettings, redis: Redis) -> WalletChallenges:
    """What wallets are asked to sign, in the name of the address where people know us."""
    return WalletChallenges(
        redis,
        domain=urlsplit(settings.public_url).netloc,
        uri=settings.public_url,
        chain_id=settings.solana_chain_id,
    )


def _key(nonce: str) -> str:
    return KEY + _hash(nonce).hex()


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
