"""The bytes of an attempt: whether they are what their row says, and what they would do."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from pydantic import SecretStr
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from raymart_billing.payouts.reconciliation.facts import BookedAttempt, Purpose
from raymart_billing.solana.marker import marker_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerAddresses:
    """Recomputes where the markers of parts must lie."""

    treasury: str
    treasury_account: str
    """Its token account."""
    key: SecretStr | None
    """None where the secret is not at hand: nothing is recomputed then."""

    def of(self, part_id: UUID, generation: int) -> str | None:
        """The marker of a part; None without the secret."""
        if self.key is None:
            return None
        key = self.key.get_secret_value().encode()
        return str(marker_of(key, Pubkey.from_string(self.treasury), part_id, generation).address)


def read_attempt(
    *,
    attempt_id: UUID,
    number: int,
    signature: str,
    state: str,
    raw: bytes,
    treasury_account: str,
    markers: Collection[str],
) -> BookedAttempt:
    """The attempt with what its bytes say. Bytes that cannot be read are unsound, and count as a payment."""
    purpose, is_sound = Purpose.PAY, False
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        named = {str(key) for key in transaction.message.account_keys}
        if treasury_account not in named:
            purpose = Purpose.BURN if named & set(markers) else Purpose.OPEN
        signed = str(transaction.signatures[0]) == signature
        is_sound = signed and bytes(transaction) == raw and all(transaction.verify_with_results())
    except (ValueError, IndexError):
        pass
    return BookedAttempt(
        id=attempt_id,
        number=number,
        signature=signature,
        state=state,
        purpose=purpose,
        are_bytes_sound=is_sound,
    )
