"""A model under a prefix of an S3 bucket, or of a store that speaks S3."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from raymart_core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from raymart_marketplace.catalog.importing.sources import FILES_LISTED_MAX, Advance, SourceFile

if TYPE_CHECKING:  # obstore has these for type checkers only.
    from obstore import GetOptions

RANGE_BYTES = 8 << 20
"""Read at once; what has arrived of a file is kept in steps of this."""
READ_TIMEOUT_S = 30.0
_PAGE = 1_000


class BucketSource:
    """All objects below the prefix."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint: str | None,
        region: str,
        access_key_id: str | None,
        secret_access_key: str | None,
    ) -> None:
        """Without keys, those of the machine or its role are used."""
        self._name = f"s3://{bucket}/{prefix}"
        given = {"endpoint": endpoint, "access_key_id": access_key_id, "secret_access_key": secret_access_key}
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            region=region,
            **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]  # of its TypedDict
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": timedelta(seconds=READ_TIMEOUT_S),
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
        )

    @property
    def name(self) -> str:
        """The prefix as a URL."""
        return self._name

    async def files(self) -> Sequence[SourceFile]:
        """Raises: NotFound for an empty prefix, Unavailable, InvalidRequest."""
        found: list[SourceFile] = []
        try:
            async for page in obstore.list(self._store, chunk_size=_PAGE):
                found += [
                    SourceFile(
                        path=each["path"],
                        size_bytes=each["size"],
                        version=each["e_tag"] or str(each["last_modified"]),
                    )
                    for each in page
                ]
                if len(found) > FILES_LISTED_MAX:
                    raise InvalidRequest(
                        f"more than {FILES_LISTED_MAX} objects below {self._name}; name the model's own prefix"
                    )
        except BaseError as error:
            raise Unavailable(f"{self._name} cannot be listed: {type(error).__name__}; try again") from None
        if not found:
            raise NotFound(f"there is nothing below {self._name}", param="source")
        return found

    async def bring(self, file: SourceFile, partial: Path, advance: Advance) -> Path:
        """Raises: Unavailable, Conflict."""
        done = await asyncio.to_thread(_size, partial)
        if done > file.size_bytes:
            await asyncio.to_thread(partial.unlink)
            done = 0
        advance(done)
        with await asyncio.to_thread(partial.open, "ab") as out:
            while done < file.size_bytes:
                piece = await self._range(file, done, min(done + RANGE_BYTES, file.size_bytes))
                await asyncio.to_thread(out.write, piece)
                done += len(piece)
                advance(len(piece))
        return partial

    async def close(self) -> None:
        """Nothing is held."""

    async def _range(self, file: SourceFile, start: int, end: int) -> bytes:
        options: GetOptions = {"range": (start, end)}
        if file.version.startswith('"'):
            options["if_match"] = file.version
        try:
            result = await obstore.get_async(self._store, file.path, options=options)
            piece = bytes(await result.bytes_async())
        except FileNotFoundError:
            raise Conflict(f"{file.path!r} is gone from {self._name}; import it anew") from None
        except BaseError as error:
            if type(error).__name__ == "PreconditionError":
                raise Conflict(f"{file.path!r} was changed below {self._name}; import it anew") from None
            raise Unavailable(
                f"{file.path!r} stops at byte {start} ({type(error).__name__}); the same import goes on from there"
            ) from None
        if len(piece) != end - start:
            raise Unavailable(f"{file.path!r} gave {len(piece)} bytes of {end - start}; try again")
        return piece


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
