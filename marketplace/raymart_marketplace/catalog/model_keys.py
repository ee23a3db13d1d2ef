"""Data keys of sealed artifacts, wrapped by the keys of the settings (`RAYMART_MODEL_KEY`).

Envelope encryption: each file has a data key of its own, and the database holds it wrapped only. To replace the wrapping
key, put the new one in front, run `raymart model rewrap`, and drop the old one: the files themselves stay as they are.
"""

import secrets
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Unavailable
from raymart_core.wire.sealed import KEY_BYTES
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.catalog.registry_models import Artifact

REWRAPPED_AT_ONCE_MAX = 500
_ID_BYTES = 4
"""What a `SecretBox` writes first: which key it was."""


class ModelKeys:
    """Makes, wraps and unwraps data keys."""

    def __init__(self, key_texts: Sequence[bytes]) -> None:
        """`key_texts`: at least 32 random bytes each, the one that wraps first; none when nothing is to be sealed."""
        self._box = SecretBox(key_texts) if key_texts else None

    @property
    def is_configured(self) -> bool:
        """Whether anything can be sealed."""
        return self._box is not None

    def new_key(self) -> bytes:
        """A data key for one file."""
        return secrets.token_bytes(KEY_BYTES)

    def wrap(self, data_key: bytes, *, sha256: str, organization_id: UUID | None) -> tuple[str, bytes]:
        """The wrapping key's id and the data key, wrapped for this file of this organization. Raises: Unavailable."""
        wrapped = self._configured().seal(data_key, purpose=_purpose(sha256, organization_id))
        return wrapped[:_ID_BYTES].hex(), wrapped

    def unwrap(self, artifact: Artifact) -> bytes:
        """The file's data key; empty for one that is not sealed. Raises: Unavailable when its wrapping key is gone."""
        if artifact.sealed_key is None:
            return b""
        try:
            return self._configured().open(
                artifact.sealed_key, purpose=_purpose(artifact.sha256, artifact.organization_id)
            )
        except ValueError as error:
            raise Unavailable(
                f"the key of artifact {artifact.sha256} cannot be unwrapped: {error}; is its key in RAYMART_MODEL_KEY?"
            ) from None

    def is_outdated(self, artifact: Artifact) -> bool:
        """Whether its data key is wrapped with another key than the first."""
        return artifact.sealed_key is not None and self._configured().is_outdated(artifact.sealed_key)

    def _configured(self) -> SecretBox:
        if self._box is None:
            raise Unavailable(
                "nothing can be sealed without a key: set RAYMART_MODEL_KEY (`openssl rand -hex 32`)"
            )
        return self._box


async def rewrap(
    session: AsyncSession, keys: ModelKeys, *, after_id: UUID | None = None
) -> tuple[int, UUID | None]:
    """Wrap up to `REWRAPPED_AT_ONCE_MAX` data keys with the first key; the files stay as they are. Safe to repeat.

    Returns how many were wrapped anew and the id to go on after, None at the end. Locks the rows, in id order. What was
    shredded (its data key is empty, by an erasure) is left. Raises: Unavailable when a key that wrapped one is gone.
    """
    statement = select(Artifact).where(Artifact.key_id.is_not(None)).order_by(Artifact.id)
    if after_id is not None:
        statement = statement.where(Artifact.id > after_id)
    page = (await session.scalars(statement.limit(REWRAPPED_AT_ONCE_MAX).with_for_update())).all()
    count = 0
    for artifact in page:
        if artifact.sealed_key and keys.is_outdated(artifact):
            artifact.key_id, artifact.sealed_key = keys.wrap(
                keys.unwrap(artifact), sha256=artifact.sha256, organization_id=artifact.organization_id
            )
            count += 1
    await session.flush()
    return count, page[-1].id if len(page) == REWRAPPED_AT_ONCE_MAX else None


def _purpose(sha256: str, organization_id: UUID | None) -> str:
    return f"model artifact {sha256} of {organization_id or 'the marketplace'}"
