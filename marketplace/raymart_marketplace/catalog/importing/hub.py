"""A model on a Hugging Face hub.

`huggingface_hub` knows where it is (`HF_ENDPOINT`) and who we are (`HF_TOKEN`, or its log-in). Fetched by us, in one stream that goes on at the byte where it was cut off. Source: its `HfApi.model_info` and `hf_hub_url`.
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec
from huggingface_hub import constants, get_token

from raymart_core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from raymart_marketplace.catalog.importing.sources import FILES_LISTED_MAX, Advance, SourceFile

LIST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""Longest silence of the hub."""
TRIES = 5
"""Connections for one file without a byte of progress between them."""
_ID = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._/-]*)?", re.ASCII
)


def is_hub_id(text: str) -> bool:
    """Whether `text` could be `owner/name` or `owner/name@revision`."""
    return len(text) <= 200 and _ID.fullmatch(text) is not None


class _Lfs(msgspec.Struct, frozen=True):
    sha256: str


class _Sibling(msgspec.Struct, frozen=True, rename={"blob_id": "blobId"}):
    rfilename: str
    size: int = 0
    blob_id: str = ""
    lfs: _Lfs | None = None


class _Listing(msgspec.Struct, frozen=True):
    """What the hub says of a model."""

    sha: str = ""
    """The commit."""
    siblings: tuple[_Sibling, ...] = ()


_read_listing = msgspec.json.Decoder(_Listing).decode


class HubSource:
    """One model at one commit: what changes on the hub meanwhile is not mixed in."""

    def __init__(self, text: str) -> None:
        """`text`: "owner/name", or "owner/name@branch, tag or commit". Raises: InvalidRequest."""
        if not is_hub_id(text):
            raise InvalidRequest(
                f"{text[:200]!r} is no Hugging Face id such as 'owner/name@main'", param="source"
            )
        self._id, _, revision = text.partition("@")
        self._revision = revision or None
        self._commit = ""
        self._client = httpx.AsyncClient(
            # Redirects to a CDN are followed; credentials are not sent to another host.
            follow_redirects=True,
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )

    @property
    def name(self) -> str:
        """With the hub's address: another hub's model of the same id is another."""
        return f"{constants.ENDPOINT}/{self._id}@{self._revision or 'main'}"

    async def files(self) -> Sequence[SourceFile]:
        """Raises: NotFound, Unavailable, InvalidRequest."""
        listing = await self._list()
        self._commit = listing.sha
        if len(listing.siblings) > FILES_LISTED_MAX:
            raise InvalidRequest(
                f"{self._id!r} has {len(listing.siblings)} files; the limit is {FILES_LISTED_MAX}"
            )
        return [
            SourceFile(
                path=each.rfilename,
                size_bytes=each.size,
                version=f"{self._commit}:{each.blob_id}",
                sha256=each.lfs.sha256 if each.lfs is not None else None,
            )
            for each in listing.siblings
        ]

    async def _list(self) -> "_Listing":
        url = f"{constants.ENDPOINT}/api/models/{self._id}"
        if self._revision is not None:
            url += f"/revision/{quote(self._revision, safe='')}"
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                response = await self._client.get(url, params={"blobs": "true"}, headers=_authorization())
        except (httpx.HTTPError, OSError) as error:
            raise Unavailable(f"the hub does not answer: {type(error).__name__}; try again") from None
        status = response.status_code
        if status in {401, 403, 404}:
            raise NotFound(
                f"the hub shows no {self._id!r} at {self._revision or 'main'!r} (it answers {status}); is it private, and"
                " HF_TOKEN set?",
                param="source",
            )
        if status != httpx.codes.OK:
            raise Unavailable(f"the hub answers {status} for {self._id!r}; try again")
        try:
            return _read_listing(response.content)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"the hub lists {self._id!r} in a way that cannot be read: {error}") from None

    async def bring(self, file: SourceFile, partial: Path, advance: Advance) -> Path:
        """Raises: NotFound, Unavailable, Conflict."""
        revision = quote(self._commit or self._revision or "main", safe="")
        url = f"{constants.ENDPOINT}/{self._id}/resolve/{revision}/{quote(file.path)}"
        done = await asyncio.to_thread(_size, partial)
        if done > file.size_bytes:
            await asyncio.to_thread(partial.unlink)
            done = 0
        advance(done)
        tries = 0
        while done < file.size_bytes or not await asyncio.to_thread(partial.exists):
            try:
                arrived = await self._stream(url, file, partial, done, advance)
            except (httpx.HTTPError, OSError) as error:
                arrived = await asyncio.to_thread(_size, partial) - done
                tries = 0 if arrived else tries + 1
                if tries >= TRIES:
                    raise Unavailable(
                        f"{file.path!r} stops at {done} of {file.size_bytes} bytes ({type(error).__name__}); the same import"
                        " goes on from there"
                    ) from None
                await asyncio.sleep(min(0.2 * 2**tries, 5.0))
            done += arrived
        return partial

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _stream(self, url: str, file: SourceFile, partial: Path, done: int, advance: Advance) -> int:
        """Append what the hub sends from byte `done` on; returns how much that was."""
        headers = {"Accept-Encoding": "identity"} | _authorization()
        if done:
            headers["Range"] = f"bytes={done}-"
        arrived = 0
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code in {401, 403, 404}:
                raise NotFound(f"the hub does not give {file.path!r}: it answers {response.status_code}")
            response.raise_for_status()
            if done and response.status_code != 206:
                raise Conflict(
                    f"the hub cannot go on with {file.path!r} at byte {done}; remove {str(partial)!r}"
                )
            with await asyncio.to_thread(partial.open, "ab") as out:
                # As it arrives: what would wait to fill a larger piece is lost when the connection is.
                async for piece in response.aiter_raw():
                    arrived += len(piece)
                    if done + arrived > file.size_bytes:
                        raise Conflict(
                            f"{file.path!r} is longer than the {file.size_bytes} bytes that the hub lists"
                        )
                    # Into the page cache, in microseconds; a thread for each would take longer.
                    out.write(piece)
                    advance(len(piece))
        return arrived


def _authorization() -> dict[str, str]:
    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
