"""The store: put, read in ranges, list, delete, sign."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from raymart_core.errors import NotFound, Unavailable
from raymart_marketplace.objects.keys import checked, media_type
from raymart_marketplace.objects.signing import UrlSigner

if TYPE_CHECKING:  # obstore has these for type checkers only.
    from obstore import GetOptions, GetResult, ObjectMeta

log = structlog.get_logger(__name__)

CHUNK_BYTES = 1 << 20
LIST_PAGE = 1_000

Content = bytes | Path | AsyncIterable[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What the store knows of an object."""

    key: str
    size_bytes: int
    modified_at: datetime
    e_tag: str
    """Quoted, as in HTTP; another one means other bytes."""


class Reading:
    """An object opened for reading from `start` up to `end`; read its chunks once."""

    def __init__(self, result: "GetResult", *, of: StoredObject) -> None:
        self.object = of
        self.start, self.end = result.range
        self._result = result

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces of about a megabyte. Raises: Unavailable when the store goes away meanwhile."""
        with _failures(self.object.key):
            async for chunk in self._result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)


class Objects:
    """All objects of a marketplace. Every method raises Unavailable when the store is away or not configured."""

    def __init__(self, store: LocalStore | S3Store | None, signer: UrlSigner) -> None:
        self._configured = store
        self._signer = signer

    @property
    def signer(self) -> UrlSigner:
        """Checks the URLs of the route."""
        return self._signer

    async def put(self, key: str, content: Content) -> None:
        """Keep `content` under `key`, all of it or nothing; what was there is replaced.

        A file or an iterable is read piece by piece, 60 MB in memory at most; when it raises, nothing is kept.
        """
        store = self._store()
        with _failures(checked(key)):
            if isinstance(store, S3Store):
                await obstore.put_async(store, key, content, attributes={"Content-Type": media_type(key)})
            else:
                await obstore.put_async(store, key, content)

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        """The whole object. Raises: NotFound; ValueError when it is larger than `bytes_max`."""
        reading = await self.open(key)
        if reading.object.size_bytes > bytes_max:
            raise ValueError(f"object {key!r} has {reading.object.size_bytes} bytes, more than {bytes_max}")
        return b"".join([chunk async for chunk in reading.chunks()])

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> Reading:
        """The object's bytes from `start` up to `end`, or to its end. Raises: NotFound; ValueError for an empty range.

        An `end` behind the object's end means that.
        """
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"no bytes from {start} to {end}")
        store = self._store()
        with _failures(checked(key)):
            if start == 0 and end is None:
                result = await obstore.get_async(store, key)
            else:
                size = (await obstore.head_async(store, key))["size"]
                if start >= size:
                    raise ValueError(f"byte {start} is behind the end of {key!r}, which has {size} bytes")
                options: GetOptions = {"range": (start, size if end is None else min(end, size))}
                result = await obstore.get_async(store, key, options=options)
        return Reading(result, of=_stored(result.meta))

    async def head(self, key: str) -> StoredObject:
        """What is known of the object. Raises: NotFound."""
        with _failures(checked(key)):
            return _stored(await obstore.head_async(self._store(), key))

    async def find(self, key: str) -> StoredObject | None:
        """The same, or None."""
        try:
            return await self.head(key)
        except NotFound:
            return None

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete the objects; one that is gone already is no error."""
        store = self._store()
        for key in keys:
            # S3 says nothing of an object that is not there, the disk does.
            with _failures(checked(key)), suppress(FileNotFoundError):
                await obstore.delete_async(store, key)

    async def list(self, prefix: str) -> AsyncIterator[Sequence[StoredObject]]:
        """Everything whose key begins with the folder `prefix`, in pages of 1,000, in no order."""
        pages = obstore.list(self._store(), checked(prefix.rstrip("/")), chunk_size=LIST_PAGE)
        with _failures(prefix):
            async for page in pages:
                yield [_stored(meta) for meta in page]

    async def signed_url(self, key: str, *, expires_s: float) -> str:
        """A URL that opens the object to whoever has it, for `expires_s` seconds: S3's own, or one of our route.

        Whether there is such an object is not asked.
        """
        store = self._store()
        if not isinstance(store, S3Store):
            return self._signer.url(checked(key), expires_s=expires_s)
        with _failures(checked(key)):
            return await obstore.sign_async(store, "GET", key, timedelta(seconds=expires_s))

    def _store(self) -> LocalStore | S3Store:
        if self._configured is None:
            raise Unavailable("this marketplace keeps no files: set RAYMART_OBJECTS_URL or RAYMART_DATA_DIR")
        return self._configured


def _stored(meta: "ObjectMeta") -> StoredObject:
    return StoredObject(
        key=meta["path"],
        size_bytes=meta["size"],
        modified_at=meta["last_modified"],
        e_tag=meta["e_tag"] or f'"{meta["size"]:x}"',
    )


@contextmanager
def _failures(key: str) -> Iterator[None]:
    """Say in our words what the store says in its own, which names machines and paths."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no object {key!r}") from None
    except BaseError as error:
        log.warning("objects.failed", key=key, reason=type(error).__name__, said=str(error)[:500])
        raise Unavailable("the store of files does not answer for the moment; try again") from None
