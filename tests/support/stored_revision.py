"""A revision in the registry of a test: its files in an object store, sealed or not, published and offered."""

import hashlib
import secrets
from uuid import UUID

from raymart_core.ids import new_id
from raymart_core.wire.sealed import ArtifactKey, SealedLayout
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.catalog.registry_models import Artifact
from raymart_marketplace.catalog.revisions import draft_revision, publish
from raymart_marketplace.catalog.service import ensure_model
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.objects import Objects
from raymart_marketplace.supply.service import open_offer
from support.revisions import Revision, sha256


def sealed(content: bytes, data_key: bytes) -> bytes:
    """The stored form of a sealed file."""
    layout = SealedLayout(size_bytes=len(content), chunk_bytes=64 * 1024)
    key = ArtifactKey(data_key, layout)
    step = layout.chunk_bytes
    chunks = [key.seal(index, content[index * step : (index + 1) * step]) for index in range(layout.chunks)]
    return layout.header + b"".join(chunks)


async def offer_stored(
    sessions: Sessions,
    objects: Objects,
    revision: Revision,
    *,
    provider_id: UUID,
    sealed_with: ModelKeys | None = None,
) -> str:
    """Keep, publish and offer `revision`, so that it is placed on the provider's nodes; its object keys' digests."""
    async with session_scope(sessions) as session:
        model = await ensure_model(
            session,
            slug=f"test/stored-{new_id().hex[-12:]}",
            name="Stored",
            description="",
            modality=Modality.CHAT,
            licence="MIT",
        )
        artifacts = {}
        for path, content in revision.files.items():
            artifact = Artifact(
                id=new_id(),
                sha256=sha256(content),
                size_bytes=len(content),
                stored_sha256=sha256(content),
                stored_bytes=len(content),
            )
            stored = content
            if sealed_with is not None:
                data_key = secrets.token_bytes(32)
                stored = sealed(content, data_key)
                artifact.stored_sha256 = hashlib.sha256(stored).hexdigest()
                artifact.stored_bytes = len(stored)
                artifact.key_id, artifact.sealed_key = sealed_with.wrap(
                    data_key, sha256=artifact.sha256, organization_id=None
                )
            await objects.put(artifact.object_key, stored)
            session.add(artifact)
            artifacts[path] = artifact.id
        await session.flush()
        drafted = await draft_revision(session, model=model, manifest=revision.manifest, artifacts=artifacts)
        await publish(session, revision_id=drafted.id)
        await open_offer(
            session,
            provider_id=provider_id,
            revision_id=drafted.id,
            ask_prompt_nano_usd=100,
            ask_completion_nano_usd=200,
        )
    return model.slug
