"""A revision's way: draft -> published -> deprecated -> withdrawn. Takes a session, flushes, never commits.

Changes of one model's revisions and aliases come one after the other (`lock_model`). What the database itself refuses,
whoever writes: a changed revision, a revived one that was withdrawn, an alias of what is not served (migration 0040).
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_core.wire.manifest import REVISION_DIGEST, Manifest, check_manifest, read_manifest
from raymart_marketplace.catalog.models import SERVED, Model, ModelRevision, RevisionState
from raymart_marketplace.catalog.naming import SLUG_CHARACTERS_MAX, is_slug
from raymart_marketplace.catalog.reference import ModelReference
from raymart_marketplace.catalog.registry_models import Artifact, ModelAlias, RevisionFile

REGISTRY = "registry:"
"""Source of revisions whose files the object store holds; the digest follows."""
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('model revisions ' || :model_id, 0))")


async def lock_model(session: AsyncSession, model_id: UUID) -> None:
    """Wait until nobody else changes the model's revisions or aliases; until the transaction ends nobody will."""
    await session.execute(_LOCK, {"model_id": str(model_id)})


async def draft_revision(
    session: AsyncSession, *, model: Model, manifest: Manifest, artifacts: Mapping[str, UUID]
) -> ModelRevision:
    """A draft of `manifest`, whose files are `artifacts` by path. Idempotent by the manifest's digest.

    Raises: InvalidRequest for a manifest that no node may use, files that are not in the store or not those of the
    manifest, and for one that another model has.
    """
    check_manifest(manifest)
    await _check_files(session, model, manifest, artifacts)
    digest = manifest.digest()
    made = await session.scalar(
        insert(ModelRevision)
        .values(
            id=new_id(),
            model_id=model.id,
            digest=digest,
            engine=manifest.engine,
            quantization=manifest.quantization,
            source=REGISTRY + digest,
            sha256=digest.removeprefix("sha256:"),
            context_length=manifest.context_length,
            capabilities=list(manifest.capabilities),
            state=RevisionState.DRAFT,
            manifest=manifest.canonical(),
            size_bytes=max(1, manifest.total_bytes()),
        )
        .on_conflict_do_nothing(index_elements=[ModelRevision.digest])
        .returning(ModelRevision.id)
    )
    if made is not None:
        rows = [
            {"revision_id": made, "path": path, "artifact_id": artifact_id}
            for path, artifact_id in sorted(artifacts.items())
        ]
        await session.execute(insert(RevisionFile).values(rows))
    revision = await revision_by_digest(session, digest)
    if revision.model_id != model.id:
        raise InvalidRequest(f"these files are a revision of another model already, as {digest}")
    return revision


async def publish(session: AsyncSession, *, revision_id: UUID) -> ModelRevision:
    """Let it be offered, placed and served. A repeat changes nothing; what was deprecated is placed anew again.

    Raises: NotFound, Conflict for what was withdrawn.
    """
    revision = await _locked(session, revision_id)
    if revision.state is RevisionState.WITHDRAWN:
        raise Conflict(f"{revision.digest} was withdrawn, for good; import and publish another revision")
    if revision.published_at is None:
        revision.published_at = await session.scalar(select(func.clock_timestamp()))
    revision.state = RevisionState.PUBLISHED
    await session.flush()
    return revision


async def deprecate(session: AsyncSession, *, revision_id: UUID) -> ModelRevision:
    """Serve it where it runs, and place it nowhere anew. A repeat changes nothing. Raises: NotFound, Conflict."""
    revision = await _locked(session, revision_id)
    if revision.state not in SERVED:
        raise Conflict(f"{revision.digest} is {revision.state.value}; only what is published is deprecated")
    revision.state = RevisionState.DEPRECATED
    await session.flush()
    return revision


async def withdraw(session: AsyncSession, *, revision_id: UUID) -> ModelRevision:
    """Serve it no more, for good; a draft too. A repeat changes nothing.

    Raises: NotFound, Conflict while an alias names it.
    """
    revision = await _locked(session, revision_id)
    named = select(ModelAlias.name).where(ModelAlias.revision_id == revision_id).order_by(ModelAlias.name)
    names = (await session.scalars(named)).all()
    if names:
        raise Conflict(
            f"{' and '.join(map(repr, names))} of the model name{'s' if len(names) == 1 else ''} {revision.digest}; roll back or"
            " point elsewhere first"
        )
    revision.state = RevisionState.WITHDRAWN
    await session.flush()
    return revision


async def revision_by_digest(session: AsyncSession, digest: str) -> ModelRevision:
    """The revision of this name, as it stands. Raises: NotFound."""
    statement = select(ModelRevision).where(ModelRevision.digest == digest)
    found = (
        await session.scalar(statement.execution_options(populate_existing=True))
        if REVISION_DIGEST.fullmatch(digest)
        else None
    )
    if found is None:
        raise NotFound(f"there is no revision {digest[:80]!r}")
    return found


async def named_revision(session: AsyncSession, reference: ModelReference) -> ModelRevision:
    """The revision that `slug@alias` or `slug@digest` names, in whatever state.

    Raises: NotFound, InvalidRequest, Conflict for an alias that names one of each of several number formats.
    """
    slug, pin = reference.slug[:SLUG_CHARACTERS_MAX], reference.revision
    if pin is None:
        raise InvalidRequest(f"{slug!r} names a model; add '@' and an alias or a digest", param="model")
    statement = (
        select(ModelRevision).join(Model, Model.id == ModelRevision.model_id).where(Model.slug == slug)
    )
    if REVISION_DIGEST.fullmatch(pin):
        statement = statement.where(ModelRevision.digest == pin)
    else:
        by_alias = ModelAlias.revision_id == ModelRevision.id
        statement = statement.join(ModelAlias, by_alias).where(ModelAlias.name == pin)
    found = (await session.scalars(statement)).all() if is_slug(slug) else []
    if not found:
        raise NotFound(f"there is no {slug}@{pin}", param="model")
    if len(found) > 1:
        named = ", ".join(sorted(f"{each.digest} ({each.quantization})" for each in found))
        raise Conflict(f"{slug}@{pin} names {named}; write the digest of the one you mean", param="model")
    return found[0]


def manifest_of(revision: ModelRevision) -> Manifest | None:
    """What it consists of; None for revisions of before there were manifests."""
    return None if revision.manifest is None else read_manifest(revision.manifest, digest=revision.digest)


async def model_of(session: AsyncSession, *, revision_id: UUID) -> UUID:
    """The id of the model that it is a revision of. Raises: NotFound."""
    model_id = await session.scalar(select(ModelRevision.model_id).where(ModelRevision.id == revision_id))
    if model_id is None:
        raise NotFound(f"there is no revision {show(Prefix.REVISION, revision_id)!r}", param="revision_id")
    return model_id


async def _locked(session: AsyncSession, revision_id: UUID) -> ModelRevision:
    """The revision as it stands, with its model locked. Raises: NotFound."""
    await lock_model(session, await model_of(session, revision_id=revision_id))
    statement = select(ModelRevision).where(ModelRevision.id == revision_id)
    return (await session.scalars(statement.execution_options(populate_existing=True))).one()


async def _check_files(
    session: AsyncSession, model: Model, manifest: Manifest, artifacts: Mapping[str, UUID]
) -> None:
    """Raises: InvalidRequest."""
    found: Sequence[Artifact] = (
        await session.scalars(select(Artifact).where(Artifact.id.in_(artifacts.values())))
    ).all()
    by_id = {artifact.id: artifact for artifact in found}
    wanted = {file.path: (file.sha256, file.bytes) for file in manifest.files}
    if wanted.keys() != artifacts.keys():
        raise InvalidRequest("the manifest's files are not those that were stored")
    for path, artifact_id in artifacts.items():
        artifact = by_id.get(artifact_id)
        if artifact is None or (artifact.sha256, artifact.size_bytes) != wanted[path]:
            raise InvalidRequest(f"{path!r} in the store is not what the manifest says")
        if artifact.organization_id not in {None, model.organization_id}:
            raise InvalidRequest(f"{path!r} is sealed for another organization")
