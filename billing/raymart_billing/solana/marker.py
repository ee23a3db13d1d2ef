"""The marker: an account that a part's first landing creates and every further landing stumbles over.

It is the first instruction of each attempt, the whole transaction is atomic, and its address follows from the part's
id: whatever an endpoint says and whatever rows were lost, a part is paid at most once. Nothing but the System program
is needed. Its rent comes back when the marker is reclaimed, after the time from which no copy of the database will ever
be restored again.
"""

import base64
import hmac
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import (
    CreateAccountWithSeedParams,
    TransferWithSeedParams,
    create_account_with_seed,
    transfer_with_seed,
)

from raymart_billing.solana.addresses import SYSTEM_PROGRAM_ID

SEED_CHARACTERS = 24
"""120 bits; the System program takes at most 32 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Where a part's marker lies."""

    seed: str
    address: Pubkey


def marker_seed(key: bytes, part_id: UUID, generation: int) -> str:
    """The seed of a part's marker. Without `key` nobody can guess it and occupy the address beforehand.

    `generation` grows only when somebody did so all the same and every attempt of the former one has expired.
    """
    assert generation >= 0, f"generation {generation}"
    digest = hmac.new(key, f"{part_id}:{generation}".encode(), sha256).digest()
    return base64.b32encode(digest)[:SEED_CHARACTERS].decode().lower()


def marker_address(treasury: Pubkey, seed: str) -> Pubkey:
    """Where the marker of `seed` lies: only `treasury` can create or empty it."""
    return Pubkey.create_with_seed(treasury, seed, SYSTEM_PROGRAM_ID)


def marker_of(key: bytes, treasury: Pubkey, part_id: UUID, generation: int) -> Marker:
    """The marker of a part."""
    seed = marker_seed(key, part_id, generation)
    return Marker(seed=seed, address=marker_address(treasury, seed))


def create_marker(treasury: Pubkey, marker: Marker, *, rent_lamports: int) -> Instruction:
    """Make the marker; fails with `Custom 0` when it is there. `rent_lamports` is that of an account without data.

    Not `create_account_allow_prefund`: an account that somebody else made would then prove nothing.
    """
    return create_account_with_seed(
        CreateAccountWithSeedParams(
            from_pubkey=treasury,
            to_pubkey=marker.address,
            base=treasury,
            seed=marker.seed,
            lamports=rent_lamports,
            space=0,
            owner=SYSTEM_PROGRAM_ID,
        )
    )


def reclaim_marker(treasury: Pubkey, marker: Marker, *, lamports: int) -> Instruction:
    """Send all `lamports` of the marker back to the treasury, which ends the account."""
    return transfer_with_seed(
        TransferWithSeedParams(
            from_pubkey=marker.address,
            from_base=treasury,
            from_seed=marker.seed,
            from_owner=SYSTEM_PROGRAM_ID,
            to_pubkey=treasury,
            lamports=lamports,
        )
    )
