"""What a node needs to serve a revision: the manifest, where its files lie, and the keys of those that are sealed.

Only nodes get it that are to run the revision, and of a private model only those of organizations that may serve it. URLs
are signed by whoever sends the grant: no transaction is open meanwhile.
"""

from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Forbidden, NotFound
from raymart_core.wire.manifest import REVISION_DIGEST, Manifest
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.models import SERVED, Model, ModelRevision
from raymart_marketplace.catalog.registry_models import Artifact, RevisionFile
from raymart_marketplace.catalog.revisions import manifest_of
from raymart_marketplace.catalog.sharing import hosted_by
from raymart_marketplace.supply.models import Node, Placement, Provider, ProviderState


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedFile:
    """One file of a revision in the object store."""

    path: str
    size_bytes: int
    sha256: str
    """These as in the manifest."""
    object_key: str
    """To sign a URL of."""
    stored_sha256: str
    stored_bytes: int
    data_key: bytes = field(repr=False)
    """Opens a sealed file (`raymart_core.wire.sealed`); empty where it is not sealed. Never written anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionGrant:
    """All that a node needs of a revision."""

    digest: str
    manifest: Manifest
    files: tuple[GrantedFile, ...]
    """In the manifest's order."""


async def load_grant(session: AsyncSession, *, node_id: UUID, digest: str, keys: ModelKeys) -> RevisionGrant:
    """What the node may have of the revision.

    Raises: NotFound when there is no such revision in the store, Forbidden when the node is not to run it, Unavailable
    when a key that wraps its files' keys is not in the settings.
    """
    if REVISION_DIGEST.fullmatch(digest) is None:
        raise NotFound(f"there is no revision {digest[:80]!r}")
    wanted = (
        select(ModelRevision)
        .join(Model, Model.id == ModelRevision.model_id)
        .join(Placement, Placement.revision_id == ModelRevision.id)
        .join(Node, Node.id == Placement.node_id)
        .join(Provider, Provider.id == Node.provider_id)
        .where(
            ModelRevision.digest == digest,
            ModelRevision.state.in_(SERVED),
            Node.id == node_id,
            Node.revoked_at.is_(None),
            Provider.state == ProviderState.ACTIVE,
            Placement.desired.is_(True),
            hosted_by(Provider.organization_id),
        )
    )
    revision = await session.scalar(wanted)
    if revision is None:
        raise Forbidden(
            f"this node is not to run {digest}; it gets the weights once a placement wants it here"
        )
    manifest = manifest_of(revision)
    if manifest is None:
        raise NotFound(f"{digest} comes with its engine's package, not from the store")
    files = await _files(session, revision.id, manifest, keys)
    return RevisionGrant(digest=digest, manifest=manifest, files=files)


async def _files(
    session: AsyncSession, revision_id: UUID, manifest: Manifest, keys: ModelKeys
) -> tuple[GrantedFile, ...]:
    """Raises: NotFound, Unavailable."""
    statement = (
        select(RevisionFile.path, Artifact)
        .join(Artifact, Artifact.id == RevisionFile.artifact_id)
        .where(RevisionFile.revision_id == revision_id)
    )
    artifacts = {row.path: row.Artifact for row in await session.execute(statement)}
    if artifacts.keys() != {file.path for file in manifest.files}:
        raise NotFound("the revision's files are not in the store: they come with its engine's package")
    return tuple(
        GrantedFile(
            path=file.path,
            size_bytes=file.bytes,
            sha256=file.sha256,
            object_key=artifact.object_key,
            stored_sha256=artifact.stored_sha256,
            stored_bytes=artifact.stored_bytes,
            data_key=keys.unwrap(artifact),
        )
        for file in manifest.files
        for artifact in [artifacts[file.path]]
    )
