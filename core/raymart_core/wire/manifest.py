"""The manifest of a revision: everything that decides what comes out. Its digest is the revision's name everywhere.

A node that is told to serve a revision checks the manifest against the name and each file against the manifest, so it
need not trust whoever sent them.
"""

import hashlib
import json
import re

import msgspec

from raymart_core.errors import InvalidRequest

FILES_MAX = 4_096
PATH_CHARACTERS_MAX = 255
SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
REVISION_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@-]*", re.ASCII)


class ManifestFile(msgspec.Struct, frozen=True):
    """One file of a revision."""

    path: str
    """Relative, parts of ASCII letters, digits and "._+=@-" separated by "/", none beginning with a dot."""
    bytes: int
    sha256: str
    """64 lower-case hex digits."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A revision, described. Whole numbers and text only, so that every language writes the same canonical form.

    What has its default is left out, so that a field may be added without renaming what is there.
    """

    engine: str
    """Name in the engine registry, such as "llama_cpp"."""
    files: tuple[ManifestFile, ...]
    """By path, each once."""
    quantization: str
    """Such as "q8_0", "bf16"."""
    context_length: int
    """Tokens of prompt and completion together, or of the caption."""
    capabilities: tuple[str, ...]
    """Sorted, each once, such as "chat", "image", "embedding", "tools"."""
    tokenizer_sha256: str = ""
    """Of the tokenizer's file, hex; empty where it is inside the weights or there is none."""
    template_sha256: str = ""
    """Of the chat template as text, hex; empty where there is none."""
    licence: str = ""
    parameters: dict[str, str] = {}
    """What the engine is set to, by name, such as {"pooling": "mean"}."""
    owner: str = ""
    """The organization whose private revision it is: the same files at two organizations have two names, so that
    neither is in the other's way or learns of it."""

    def canonical(self) -> bytes:
        """JSON with sorted names, no blanks, ASCII only: for these values what RFC 8785 writes."""
        document = msgspec.to_builtins(self)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    def digest(self) -> str:
        """The revision's name, "sha256:<hex>"."""
        return f"sha256:{hashlib.sha256(self.canonical()).hexdigest()}"

    def total_bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


def read_manifest(canonical: bytes, *, digest: str) -> Manifest:
    """The manifest whose name is `digest`. Raises: InvalidRequest for another document, or one that must not be used."""
    found = f"sha256:{hashlib.sha256(canonical).hexdigest()}"
    if found != digest:
        raise InvalidRequest(f"this manifest is {found}, not {digest}; ask for it again")
    try:
        manifest = _decode(canonical)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"manifest {digest} cannot be read: {error}") from error
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Refuse what no node may use: paths that leave the folder, files twice, false digests. Raises: InvalidRequest."""
    if not 1 <= len(manifest.files) <= FILES_MAX:
        raise InvalidRequest(f"a revision has 1 to {FILES_MAX} files, not {len(manifest.files)}")
    if manifest.context_length < 1:
        raise InvalidRequest(f"a context of {manifest.context_length} tokens is too short; at least 1")
    paths = [file.path for file in manifest.files]
    if paths != sorted(set(paths)):
        raise InvalidRequest("the files of a manifest are sorted by path, each path once")
    if list(manifest.capabilities) != sorted(set(manifest.capabilities)):
        raise InvalidRequest("the capabilities of a manifest are sorted, each once")
    for file in manifest.files:
        check_path(file.path)
        if file.bytes < 0 or SHA256_HEX.fullmatch(file.sha256) is None:
            raise InvalidRequest(f"{file.path!r} has {file.bytes} bytes and digest {file.sha256[:80]!r}")


def check_path(path: str) -> None:
    """Refuse a path that is not plainly inside the revision's folder. Raises: InvalidRequest."""
    parts = path.split("/")
    if len(path) > PATH_CHARACTERS_MAX or not all(_PATH_PART.fullmatch(part) for part in parts):
        raise InvalidRequest(
            f"{path[:PATH_CHARACTERS_MAX]!r} cannot be a revision's file: parts of letters, digits and ._+=@- separated by "
            f"slashes, none beginning with a dot, {PATH_CHARACTERS_MAX} characters at most"
        )


_decode = msgspec.json.Decoder(Manifest, strict=True).decode
