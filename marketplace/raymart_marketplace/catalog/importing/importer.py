"""A model's files into the store, and a draft revision of them. Cut off at any moment, the same import goes on.

Of each file: bring it here, check what it is, hash it, store it, and note that in a journal beside what was brought; then
what was brought goes. Digests make all of it safe to repeat: nothing is stored twice, and a file that changed is another.
"""

import asyncio
import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.catalog.artifacts import Advance, ArtifactStore, file_digest
from raymart_marketplace.catalog.importing.plan import Facts, ImportPlan, facts_of, make_manifest
from raymart_marketplace.catalog.importing.sources import Source, SourceFile
from raymart_marketplace.catalog.models import Modality, Model, ModelRevision, Visibility
from raymart_marketplace.catalog.revisions import draft_revision
from raymart_marketplace.catalog.service import ensure_model
from raymart_marketplace.catalog.weights.choosing import check_content, choose
from raymart_marketplace.db.session import Sessions, session_scope

FILE_BYTES_MAX = 1 << 40
_MODALITIES = {"image": Modality.IMAGE, "embedding": Modality.EMBEDDING}


class ImportProgress(Protocol):
    """Is told how far an import is."""

    def found(self, *, files: int, size_bytes: int, left_out: tuple[tuple[str, str], ...]) -> None:
        """What is to be imported, and which files are not, with the reason."""

    def begin(self, path: str, *, stage: str, size_bytes: int) -> Advance:
        """A file is brought or stored; what is returned is told of each piece, also of those of an earlier run."""

    def done(self, path: str, *, size_bytes: int, was_there: bool) -> None:
        """The file is in the store; `was_there` when it was before."""


class Noted(msgspec.Struct, frozen=True):
    """A file of the source that is in the store."""

    path: str
    version: str
    size_bytes: int
    sha256: str
    artifact_id: UUID
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A model and its revision, a draft unless it was there before."""

    model: Model
    revision: ModelRevision


@dataclass(frozen=True, slots=True)
class _Run:
    """What each step of one import needs."""

    source: Source
    plan: ImportPlan
    progress: ImportProgress
    folder: Path

    def partial(self, file: SourceFile) -> Path:
        """Where the file is brought to."""
        return self.folder / f"{_short_digest(file.path, file.version)}.partial"


class Importer:
    """Imports models, one at a time."""

    def __init__(self, sessions: Sessions, store: ArtifactStore, *, staging: Path) -> None:
        """`staging`: a folder of this machine that stays, for what is brought from afar."""
        self._sessions = sessions
        self._store = store
        self._staging = staging

    async def run(self, source: Source, plan: ImportPlan, progress: ImportProgress) -> Imported:
        """Import `source` as `plan` says.

        Raises: InvalidRequest for files that are not kept or a plan that does not say enough, Conflict when another
        process imports the same or a file is not what its source says, NotFound, Unavailable.
        """
        listed = await source.files()
        choice = choose([file.path for file in listed])
        files = [file for file in listed if file.path in set(choice.kept)]
        if any(not 0 <= file.size_bytes <= FILE_BYTES_MAX for file in files):
            raise InvalidRequest(f"a file has more than {FILE_BYTES_MAX} bytes")
        progress.found(
            files=len(files), size_bytes=sum(file.size_bytes for file in files), left_out=choice.left_out
        )
        folder = (
            self._staging / hashlib.sha256(f"{source.name}\n{plan.organization_id}".encode()).hexdigest()[:24]
        )
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        with _alone(folder, source.name):
            journal = await asyncio.to_thread(_read_journal, folder / "journal")
            run, noted = _Run(source, plan, progress, folder), {}
            for file in sorted(files, key=lambda each: each.size_bytes):
                noted[file.path] = await self._file(run, file, journal.get(file.path))
            imported = await self._draft(plan, noted)
            await asyncio.to_thread(shutil.rmtree, folder)
        return imported

    async def _file(self, run: _Run, file: SourceFile, known: Noted | None) -> Noted:
        """Have the file in the store; `known` is what an earlier run noted of it."""
        if known is not None and known.version == file.version:
            found = await self._store.find(known.sha256, organization_id=run.plan.organization_id)
            if found is not None and found.id == known.artifact_id:
                run.progress.done(file.path, size_bytes=file.size_bytes, was_there=True)
                return known
        partial = run.partial(file)
        advance = run.progress.begin(file.path, stage="fetch", size_bytes=file.size_bytes)
        brought = await run.source.bring(file, partial, advance)
        noted, was_there = await self._keep(run, file, brought)
        await asyncio.to_thread(_note, run.folder / "journal", noted)
        if brought == partial:
            await asyncio.to_thread(partial.unlink)
        run.progress.done(file.path, size_bytes=file.size_bytes, was_there=was_there)
        return noted

    async def _keep(self, run: _Run, file: SourceFile, brought: Path) -> tuple[Noted, bool]:
        """Check and store what was brought; whether it was stored before. Raises: InvalidRequest, Conflict."""
        owner = run.plan.organization_id
        size = (await asyncio.to_thread(brought.stat)).st_size
        sha256 = await file_digest(brought)
        if file.sha256 not in {None, sha256} or size != file.size_bytes:
            if brought == run.partial(file):
                # To go on with it would end here again.
                await asyncio.to_thread(brought.unlink)
            raise Conflict(
                f"{file.path!r} is {sha256} of {size} bytes, and its source says {file.sha256 or 'nothing'} of"
                f" {file.size_bytes}; import it anew"
            )
        try:
            await asyncio.to_thread(check_content, brought, name=file.path)
            facts = await asyncio.to_thread(facts_of, brought, name=file.path)
        except InvalidRequest as error:
            # What was brought has a name of ours, which tells nobody anything.
            message = error.message.replace(repr(brought.name), repr(file.path))
            raise InvalidRequest(message, param="source") from None
        known = await self._store.find(sha256, organization_id=owner)
        if known is None:
            advance = run.progress.begin(file.path, stage="store", size_bytes=size)
            stored = await self._store.put(brought, sha256=sha256, organization_id=owner, advance=advance)
        noted = Noted(
            path=file.path,
            version=file.version,
            size_bytes=size,
            sha256=sha256,
            artifact_id=stored.id if known is None else known.id,
            facts=facts,
        )
        return noted, known is not None

    async def _draft(self, plan: ImportPlan, noted: Mapping[str, Noted]) -> Imported:
        """The revision of what is stored now, of a model that is made where there is none. Raises: InvalidRequest."""
        manifest = make_manifest(
            plan,
            {path: (each.size_bytes, each.sha256) for path, each in noted.items()},
            {path: each.facts for path, each in noted.items()},
        )
        modality = next(
            (_MODALITIES[each] for each in manifest.capabilities if each in _MODALITIES), Modality.CHAT
        )
        async with session_scope(self._sessions) as session:
            await _check_owner(session, plan)
            model = await ensure_model(
                session,
                slug=plan.slug,
                name=plan.name or plan.slug.rpartition("/")[2],
                description=plan.description,
                modality=modality,
                licence=manifest.licence or "unknown",
                organization_id=plan.organization_id,
            )
            is_private = model.visibility is Visibility.PRIVATE
            if (model.organization_id if is_private else None) != plan.organization_id:
                raise InvalidRequest(
                    f"{plan.slug!r} is a model already, and not this organization's private one",
                    param="model",
                )
            artifacts = {path: each.artifact_id for path, each in noted.items()}
            revision = await draft_revision(session, model=model, manifest=manifest, artifacts=artifacts)
        return Imported(model=model, revision=revision)


async def _check_owner(session: AsyncSession, plan: ImportPlan) -> None:
    """A private model is called by its owner's name, so that nobody learns from a taken name. Raises: InvalidRequest."""
    if plan.organization_id is None:
        return
    organization = await session.get_one(Organization, plan.organization_id)
    if plan.slug.partition("/")[0] != organization.slug:
        raise InvalidRequest(
            f"a private model of {organization.slug!r} is called '{organization.slug}/...', not {plan.slug!r}",
            param="model",
        )


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Nobody else imports the same on this machine meanwhile; the kernel ends it with the process. Raises: Conflict."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(f"{name} is being imported by another process") from None
        yield


def _short_digest(*parts: str) -> str:
    """A name of a file for these."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _read_journal(path: Path) -> Mapping[str, Noted]:
    """What an earlier run noted; a line that was cut off is forgotten."""
    noted = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            entry = _decode(line)
        except msgspec.MsgspecError:
            continue
        noted[entry.path] = entry
    return noted


def _note(path: Path, noted: Noted) -> None:
    with path.open("ab") as file:
        file.write(b"\n" + msgspec.json.encode(noted) + b"\n")


_decode = msgspec.json.Decoder(Noted).decode
