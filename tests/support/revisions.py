"""Revisions for tests of distribution: files, their manifest, and the grants that a marketplace gives for them."""

import hashlib
from dataclasses import dataclass

import msgspec

from raymart_core.wire.link import ArtifactAsk, ArtifactGrants, FileGrant, PeerGrant
from raymart_core.wire.manifest import Manifest, ManifestFile


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Revision:
    """Files by path, each stored as it is."""

    files: dict[str, bytes]
    engine: str = "llama_cpp"

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            engine=self.engine,
            files=tuple(
                ManifestFile(path=path, bytes=len(content), sha256=sha256(content))
                for path, content in sorted(self.files.items())
            ),
            quantization="f16",
            context_length=1024,
            capabilities=("chat",),
        )

    @property
    def digest(self) -> str:
        return self.manifest.digest()

    @property
    def objects(self) -> dict[str, bytes]:
        """What an object store has of it: by path with a leading slash."""
        return {f"/{sha256(content)}": content for content in self.files.values()}

    def grants(
        self,
        ask: ArtifactAsk,
        *,
        origin: str,
        peers: tuple[PeerGrant, ...] = (),
        page: int = 100,
        query: str = "",
    ) -> ArtifactGrants:
        """The answer to `ask`: `page` files at most, with URLs below `origin`."""
        manifest = self.manifest
        return ArtifactGrants(
            ask=ask.ask,
            manifest=msgspec.structs.replace(manifest, files=()),
            files_total=len(manifest.files),
            first=ask.first,
            files=tuple(
                FileGrant(
                    path=file.path,
                    size=file.bytes,
                    sha256=file.sha256,
                    stored_sha256=file.sha256,
                    stored_size=file.bytes,
                    url=f"{origin}/{file.sha256}{query}",
                )
                for file in manifest.files[ask.first : ask.first + page]
            ),
            peers=peers,
        )
