"""Rules of the catalog. Every function takes a session and flushes; the edge commits."""

import difflib
import re
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest, ModelNotFound
from raymart_core.ids import new_id
from raymart_core.wire.manifest import Manifest, check_manifest
from raymart_marketplace.catalog.aliases import point_alias
from raymart_marketplace.catalog.manifest import manifest_digest
from raymart_marketplace.catalog.models import Modality, Model, ModelRevision, RevisionState, Visibility
from raymart_marketplace.catalog.naming import LATEST, SLUG_CHARACTERS_MAX, is_slug

NEAREST_CUTOFF = 0.5
"""How alike, 0 to 1, a slug must be to be suggested."""
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


async def all_models(session: AsyncSession) -> Sequence[Model]:
    """Every model, by slug. A catalog has hundreds of models at most, so this is one page."""
    return (await session.scalars(select(Model).order_by(Model.slug))).all()


async def model_by_slug(session: AsyncSession, slug: str) -> Model:
    """The model with this slug. Raises: ModelNotFound, naming the most alike one."""
    model = await session.scalar(select(Model).where(Model.slug == slug)) if is_slug(slug) else None
    if model is None:
        slugs = (await session.scalars(select(Model.slug))).all()
        raise ModelNotFound(slug[:SLUG_CHARACTERS_MAX], nearest=nearest_slug(slug, slugs))
    return model


def nearest_slug(slug: str, slugs: Sequence[str]) -> str | None:
    """The one of `slugs` that a customer who wrote `slug` most likely meant; None when none is alike.

    People leave out the owner ("demo-chat") or write another's, so the part after the slash is compared as well.
    """
    wanted = slug[:SLUG_CHARACTERS_MAX].lower()
    by_spelling = {spelling: full for full in slugs for spelling in (full.rpartition("/")[2], full)}
    near = difflib.get_close_matches(wanted, by_spelling, n=1, cutoff=NEAREST_CUTOFF)
    if not near:
        near = difflib.get_close_matches(wanted.rpartition("/")[2], by_spelling, n=1, cutoff=NEAREST_CUTOFF)
    return by_spelling[near[0]] if near else None


async def ensure_model(
    session: AsyncSession,
    *,
    slug: str,
    name: str,
    description: str,
    modality: Modality,
    licence: str,
    organization_id: UUID | None = None,
) -> Model:
    """The model with this slug, made unless it exists; an existing one is left as it is. Raises: InvalidRequest.

    One of an organization is private.
    """
    if not is_slug(slug):
        raise InvalidRequest(f"{slug!r} is not a model slug such as 'raymart/demo-chat'", param="slug")
    await session.execute(
        insert(Model)
        .values(
            id=new_id(),
            slug=slug,
            name=name,
            description=description,
            modality=modality,
            licence=licence,
            organization_id=organization_id,
            visibility=Visibility.PUBLIC if organization_id is None else Visibility.PRIVATE,
        )
        .on_conflict_do_nothing(index_elements=[Model.slug])
    )
    return (await session.scalars(select(Model).where(Model.slug == slug))).one()


async def publish_revision(
    session: AsyncSession,
    *,
    model: Model,
    engine: str,
    source: str,
    sha256: str,
    quantization: str,
    context_length: int,
    capabilities: Sequence[str] = (),
) -> ModelRevision:
    """Publish bundled weights that have no manifest as a revision of `model`, named by what is given here.

    Idempotent: a repeat returns the same. A draft becomes published; what was deprecated or withdrawn meanwhile stays
    so. Raises: InvalidRequest.
    """
    _check_weights(sha256=sha256, context_length=context_length)
    digest = manifest_digest(
        engine=engine,
        source=source,
        sha256=sha256,
        quantization=quantization,
        context_length=context_length,
    )
    return await _publish(
        session,
        {
            "model_id": model.id,
            "digest": digest,
            "engine": engine,
            "quantization": quantization,
            "source": source,
            "sha256": sha256,
            "context_length": context_length,
            "capabilities": list(capabilities),
        },
    )


async def publish_bundled(
    session: AsyncSession, *, model: Model, manifest: Manifest, source: str, sha256: str
) -> ModelRevision:
    """Publish files that come with the engine's package as a revision of `model`, named by its manifest's digest.

    `source` is "bundled:<file or folder>", `sha256` of that file or tree, as the node checks it. Idempotent as
    `publish_revision`. Raises: InvalidRequest.
    """
    check_manifest(manifest)
    _check_weights(sha256=sha256, context_length=manifest.context_length)
    return await _publish(
        session,
        {
            "model_id": model.id,
            "digest": manifest.digest(),
            "engine": manifest.engine,
            "quantization": manifest.quantization,
            "source": source,
            "sha256": sha256,
            "context_length": manifest.context_length,
            "capabilities": list(manifest.capabilities),
            "manifest": manifest.canonical(),
            "size_bytes": manifest.total_bytes() or None,
        },
    )


async def _publish(session: AsyncSession, values: Mapping[str, object]) -> ModelRevision:
    """Make the row, or publish the draft that is there; what is new is `latest`. Raises: InvalidRequest."""
    made = insert(ModelRevision).values(
        id=new_id(), state=RevisionState.PUBLISHED, published_at=func.clock_timestamp(), **values
    )
    published = await session.scalar(
        made.on_conflict_do_update(
            index_elements=[ModelRevision.digest],
            set_={"state": RevisionState.PUBLISHED, "published_at": made.excluded.published_at},
            where=ModelRevision.state == RevisionState.DRAFT,
        ).returning(ModelRevision.id)
    )
    found = select(ModelRevision).where(ModelRevision.digest == values["digest"])
    revision = (await session.scalars(found.execution_options(populate_existing=True))).one()
    if revision.model_id != values["model_id"]:
        raise InvalidRequest(f"these weights are published under another model already, as {revision.digest}")
    if published is not None:
        await point_alias(session, model_id=revision.model_id, name=LATEST, revision_id=revision.id)
    return revision


async def revisions(session: AsyncSession, model: Model) -> Sequence[ModelRevision]:
    """The model's revisions, newest first."""
    found = await session.scalars(
        select(ModelRevision).where(ModelRevision.model_id == model.id).order_by(ModelRevision.id.desc())
    )
    return found.all()


def _check_weights(*, sha256: str, context_length: int) -> None:
    """Raises: InvalidRequest."""
    if _SHA256.fullmatch(sha256) is None:
        raise InvalidRequest(f"{sha256[:80]!r} is not a SHA-256 in 64 lower-case hex digits", param="sha256")
    if context_length < 1:
        raise InvalidRequest(f"a context of {context_length} tokens is too short", param="context_length")
