"""Files into the object store: each once, sealed where a model is private, with a row once it lies there."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from raymart_core.errors import Conflict
from raymart_core.ids import new_id
from raymart_core.wire.sealed import CHUNK_BYTES, ArtifactKey, SealedLayout
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.registry_models import Artifact
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.objects import Objects, artifact_key

Advance = Callable[[int], None]
"""Told of each piece that was written, in bytes."""


class ArtifactStore:
    """Puts files into the object store and finds those that are there. Holds no transaction while it writes."""

    def __init__(self, sessions: Sessions, objects: Objects, keys: ModelKeys) -> None:
        self._sessions = sessions
        self._objects = objects
        self._keys = keys

    async def find(self, sha256: str, *, organization_id: UUID | None) -> Artifact | None:
        """The artifact of these bytes that the organization (None: everybody) may use, if its object is there too."""
        found = await self._row(sha256, organization_id)
        if found is None or await self._objects.find(found.object_key) is None:
            return None
        return found

    async def put(
        self, path: Path, *, sha256: str, organization_id: UUID | None, advance: Advance
    ) -> Artifact:
        """Store the file, unless it is there. Files of an organization are sealed with a data key of their own.

        Raises: Conflict when the file is not (any more) what `sha256` says, Unavailable without a key to seal with, or
        when the store is away. What was written is then not kept.
        """
        size = (await asyncio.to_thread(path.stat)).st_size
        known = await self._row(sha256, organization_id)
        if known is not None and await self._objects.find(known.object_key) is not None:
            advance(size)
            return known
        if organization_id is None:
            await self._objects.put(artifact_key(sha256), _read(plain_pieces(path), sha256, advance))
            stored: dict[str, object] = {"stored_sha256": sha256, "stored_bytes": size}
        else:
            # An object that was lost is made again as it was: with the key that its row has.
            data_key = self._keys.new_key() if known is None else self._keys.unwrap(known)
            stored = await self._put_sealed(path, data_key, SealedLayout(size_bytes=size), advance)
            key_id, wrapped = self._keys.wrap(data_key, sha256=sha256, organization_id=organization_id)
            stored |= {"key_id": key_id, "sealed_key": wrapped}
        values = {"sha256": sha256, "size_bytes": size, "organization_id": organization_id, **stored}
        return await self._keep(values)

    async def _put_sealed(
        self, path: Path, data_key: bytes, layout: SealedLayout, advance: Advance
    ) -> dict[str, object]:
        """Read twice: where it lies is named by the bytes as they lie there."""
        digest = await asyncio.to_thread(_digest, sealed_pieces(path, data_key, layout))
        await self._objects.put(
            artifact_key(digest), _read(sealed_pieces(path, data_key, layout), digest, advance)
        )
        return {"stored_sha256": digest, "stored_bytes": layout.stored_bytes}

    async def _row(self, sha256: str, organization_id: UUID | None) -> Artifact | None:
        statement = select(Artifact).where(
            Artifact.sha256 == sha256, Artifact.organization_id.is_not_distinct_from(organization_id)
        )
        async with session_scope(self._sessions) as session:
            return await session.scalar(statement)

    async def _keep(self, values: dict[str, object]) -> Artifact:
        """Write the row, unless who stored the same meanwhile was first: then theirs counts, and its object."""
        made = insert(Artifact).values(id=new_id(), **values)
        async with session_scope(self._sessions) as session:
            await session.execute(made.on_conflict_do_nothing())
        row = await self._row(str(values["sha256"]), cast("UUID | None", values["organization_id"]))
        assert row is not None, "it was just written"
        return row


def plain_pieces(path: Path) -> Iterator[bytes]:
    """The file in pieces of a megabyte."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece


def sealed_pieces(path: Path, data_key: bytes, layout: SealedLayout) -> Iterator[bytes]:
    """The sealed file: its header, then a piece for each chunk. Raises: Conflict when the file has changed its size."""
    cipher = ArtifactKey(data_key, layout)
    yield layout.header
    index = -1
    for index, piece in enumerate(plain_pieces(path)):
        if len(piece) != min(layout.chunk_bytes, layout.size_bytes - index * layout.chunk_bytes):
            break
        yield cipher.seal(index, piece)
    if index + 1 != layout.chunks:
        raise Conflict(f"{path.name!r} changes while it is read; import it when nobody writes to it")


async def file_digest(path: Path) -> str:
    """SHA-256 of the file, hex."""
    return await asyncio.to_thread(_digest, plain_pieces(path))


def _digest(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


async def _read(pieces: Iterator[bytes], sha256: str, advance: Advance) -> AsyncIterator[bytes]:
    """Hand the pieces on, and fail at the end when they are not what they were to be: the store then keeps nothing."""
    digest = hashlib.sha256()

    def take() -> bytes | None:
        piece = next(pieces, None)
        if piece is not None:
            digest.update(piece)
        return piece

    while (piece := await asyncio.to_thread(take)) is not None:
        yield piece
        advance(len(piece))
    if digest.hexdigest() != sha256:
        raise Conflict(f"what was read is {digest.hexdigest()}, not {sha256}; the file was changed meanwhile")
