"""Ask the marketplace over the link for a revision's files: page by page, proven by the revision's own name."""

import asyncio
import itertools
from dataclasses import dataclass

import msgspec

from raymart_core.errors import InvalidRequest, RaymartError
from raymart_core.wire.link import (
    ArtifactAsk,
    ArtifactGrants,
    ArtifactRefusal,
    FileGrant,
    PeerGrant,
)
from raymart_core.wire.manifest import FILES_MAX, SHA256_HEX, Manifest, ManifestFile, read_manifest
from raymart_providers.link.outbox import Outbox

_ANSWER_TIMEOUT_S = 20.0


class NoGrants(RaymartError):
    """The marketplace does not say where the revision is."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry
        """Whether a later ask may succeed."""


@dataclass(frozen=True, slots=True)
class Grants:
    """A revision, and how to get it."""

    manifest: Manifest
    """Its digest is the revision's name, and its paths are safe."""
    files: tuple[FileGrant, ...]
    """In the manifest's order, with its paths, sizes and digests."""
    peers: tuple[PeerGrant, ...]


class GrantAsker:
    """Asks and answers of one agent, over whatever link is up."""

    def __init__(self, *, timeout_s: float = _ANSWER_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._outbox: Outbox | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[ArtifactGrants]] = {}

    def up(self, outbox: Outbox) -> None:
        """A link is there."""
        self._outbox = outbox

    def down(self) -> None:
        """The link is gone, and with it every answer that was waited for."""
        self._outbox = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(NoGrants("the link to the marketplace was lost", retry=True))

    def take(self, message: ArtifactGrants | ArtifactRefusal) -> None:
        """An answer; one that nobody waits for is let pass."""
        waiting = self._waiting.get(message.ask)
        if waiting is None or waiting.done():
            return
        if isinstance(message, ArtifactRefusal):
            waiting.set_exception(NoGrants(message.message, retry=message.retry))
        else:
            waiting.set_result(message)

    async def ask(self, revision: str) -> Grants:
        """All files of `revision`, with fresh permissions. Raises: NoGrants."""
        page = await self._page(revision, first=0)
        if not 1 <= page.files_total <= FILES_MAX:
            raise NoGrants(f"{revision} cannot have {page.files_total} files", retry=False)
        header, peers = page.manifest, page.peers
        files = list(page.files)
        while len(files) < page.files_total:
            if not page.files:
                raise NoGrants(f"the marketplace left out files of {revision}", retry=True)
            page = await self._page(revision, first=len(files))
            files += page.files
        return Grants(_proven(header, files, revision), tuple(files), peers)

    async def _page(self, revision: str, *, first: int) -> ArtifactGrants:
        if self._outbox is None:
            raise NoGrants("there is no link to the marketplace", retry=True)
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._outbox.control(ArtifactAsk(ask=number, revision=revision, first=first))
            async with asyncio.timeout(self._timeout_s):
                page: ArtifactGrants = await waiting
        except TimeoutError:
            raise NoGrants(f"no answer from the marketplace in {self._timeout_s} s", retry=True) from None
        finally:
            del self._waiting[number]
        if page.first != first:
            raise NoGrants(f"the marketplace answered from file {page.first}, not {first}", retry=True)
        return page


def _proven(header: Manifest, files: list[FileGrant], revision: str) -> Manifest:
    """The manifest that these make, if its digest is `revision`. Raises: NoGrants."""
    manifest = msgspec.structs.replace(
        header,
        files=tuple(ManifestFile(path=file.path, bytes=file.size, sha256=file.sha256) for file in files),
    )
    try:
        read_manifest(manifest.canonical(), digest=revision)
    except InvalidRequest as error:
        raise NoGrants(f"the marketplace describes another revision: {error.message}", retry=False) from error
    for file in files:
        # A blob's name becomes a file name here, and what is not sealed is named by what it holds.
        named_right = SHA256_HEX.fullmatch(file.stored_sha256) is not None and file.stored_size >= 0
        if not named_right or not (file.data_key or file.stored_sha256 == file.sha256):
            raise NoGrants(f"{file.path!r} is stored as {file.stored_sha256[:80]!r}", retry=False)
    return manifest
