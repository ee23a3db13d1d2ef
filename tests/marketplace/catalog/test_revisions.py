import hashlib
import secrets
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.wire.manifest import Manifest, ManifestFile
from raymart_marketplace.catalog.models import ModelRevision, RevisionState
from raymart_marketplace.catalog.reference import read_reference
from raymart_marketplace.catalog.registry_models import Artifact
from raymart_marketplace.catalog.revisions import (
    deprecate,
    draft_revision,
    manifest_of,
    named_revision,
    publish,
    revision_by_digest,
    withdraw,
)
from raymart_marketplace.catalog.service import ensure_model, model_by_slug, publish_bundled
from raymart_marketplace.db.session import Sessions, session_scope
from support.market import make_customer, make_revision, unique


def manifest_of_one(sha256: str, **changes: object) -> Manifest:
    fields = {
        "engine": "llama_cpp",
        "files": (ManifestFile(path="model.gguf", bytes=7, sha256=sha256),),
        "quantization": "q8_0",
        "context_length": 1_024,
        "capabilities": ("chat",),
        "parameters": {"pooling": "mean"},
    }
    return Manifest(**(fields | changes))


async def make_artifact(session, *, owner: UUID | None = None) -> Artifact:
    sha256 = hashlib.sha256(secrets.token_bytes(8)).hexdigest()
    made = Artifact(sha256=sha256, size_bytes=7, stored_sha256=sha256, stored_bytes=7, organization_id=owner)
    if owner is not None:
        made.key_id, made.sealed_key = "key", b"wrapped"
    session.add(made)
    await session.flush()
    return made


async def make_model(session):
    return await ensure_model(
        session,
        slug=f"test/{unique('model')}",
        name="A model",
        description="",
        modality="chat",
        licence="MIT",
    )


async def make_draft(session) -> ModelRevision:
    artifact = await make_artifact(session)
    return await draft_revision(
        session,
        model=await make_model(session),
        manifest=manifest_of_one(artifact.sha256),
        artifacts={"model.gguf": artifact.id},
    )


class TestDraftRevision:
    async def test_draft_is_named_by_its_manifest(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            draft = await make_draft(session)
            manifest = manifest_of(draft)
        assert manifest is not None
        assert draft.digest == manifest.digest()
        assert (draft.source, draft.sha256) == (f"registry:{draft.digest}", draft.digest[7:])
        assert (draft.state, draft.size_bytes, draft.published_at) == (RevisionState.DRAFT, 7, None)

    async def test_repeat_returns_the_same(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            artifact, model = await make_artifact(session), await make_model(session)
            made = [
                await draft_revision(
                    session,
                    model=model,
                    manifest=manifest_of_one(artifact.sha256),
                    artifacts={"model.gguf": artifact.id},
                )
                for _ in range(2)
            ]
        assert made[0].id == made[1].id

    @pytest.mark.parametrize(
        "path", ["../model.gguf", "/etc/passwd", "a/../../b", ".git/config", "a//b", "a\\b"]
    )
    async def test_path_out_of_the_folder_is_refused(self, sessions: Sessions, path: str):
        async with session_scope(sessions) as session:
            artifact, model = await make_artifact(session), await make_model(session)
            manifest = manifest_of_one(
                artifact.sha256, files=(ManifestFile(path=path, bytes=7, sha256=artifact.sha256),)
            )
            with pytest.raises(InvalidRequest, match="cannot be a revision's file"):
                await draft_revision(session, model=model, manifest=manifest, artifacts={path: artifact.id})

    async def test_file_that_is_not_what_the_manifest_says_is_refused(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            artifact, model = await make_artifact(session), await make_model(session)
            for artifacts, message in (
                ({"model.gguf": new_id()}, "is not what the manifest says"),
                ({}, "not those that were stored"),
                ({"model.gguf": (await make_artifact(session)).id}, "is not what the manifest says"),
            ):
                with pytest.raises(InvalidRequest, match=message):
                    await draft_revision(
                        session, model=model, manifest=manifest_of_one(artifact.sha256), artifacts=artifacts
                    )

    async def test_file_of_another_organization_is_refused(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            owner = (await make_customer(session)).organization_id
            artifact = await make_artifact(session, owner=owner)
            with pytest.raises(InvalidRequest, match="sealed for another organization"):
                await draft_revision(
                    session,
                    model=await make_model(session),
                    manifest=manifest_of_one(artifact.sha256),
                    artifacts={"model.gguf": artifact.id},
                )

    async def test_files_of_another_model_are_refused(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            draft = await make_draft(session)
            manifest = manifest_of(draft)
            with pytest.raises(InvalidRequest, match=draft.digest):
                await publish_bundled(
                    session,
                    model=await make_model(session),
                    manifest=manifest,
                    source="bundled:x",
                    sha256="a" * 64,
                )


class TestStates:
    async def test_way_of_a_revision(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            draft = await make_draft(session)
            with pytest.raises(Conflict, match="draft"):
                await deprecate(session, revision_id=draft.id)
            published = await publish(session, revision_id=draft.id)
            moment = published.published_at
            assert (published.state, moment is not None) == (RevisionState.PUBLISHED, True)
            assert (await deprecate(session, revision_id=draft.id)).state is RevisionState.DEPRECATED
            again = await publish(session, revision_id=draft.id)
            assert (again.state, again.published_at) == (RevisionState.PUBLISHED, moment)
            for _ in range(2):
                assert (await withdraw(session, revision_id=draft.id)).state is RevisionState.WITHDRAWN
            for work in (publish, deprecate):
                with pytest.raises(Conflict, match="withdrawn"):
                    await work(session, revision_id=draft.id)

    async def test_what_an_alias_names_is_not_withdrawn(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            revision = await make_revision(session)
            with pytest.raises(Conflict, match="'latest' of the model names"):
                await withdraw(session, revision_id=revision.id)
        with pytest.raises(DBAPIError, match="the alias latest names the revision"):
            async with session_scope(sessions) as session:
                await session.execute(
                    update(ModelRevision).where(ModelRevision.id == revision.id).values(state="withdrawn")
                )

    @pytest.mark.parametrize(
        "change", [{"engine": "other"}, {"manifest": b"{}"}, {"digest": "sha256:" + "0" * 64}]
    )
    async def test_database_refuses_to_change_what_it_is(self, sessions: Sessions, change):
        async with session_scope(sessions) as session:
            revision = await make_revision(session)
        with pytest.raises(DBAPIError, match="is refused: a revision is what its digest says"):
            async with session_scope(sessions) as session:
                await session.execute(
                    update(ModelRevision).where(ModelRevision.id == revision.id).values(**change)
                )

    async def test_database_refuses_to_revive(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            draft = await make_draft(session)
            await withdraw(session, revision_id=draft.id)
        with pytest.raises(DBAPIError, match="what was withdrawn stays withdrawn"):
            async with session_scope(sessions) as session:
                await session.execute(
                    update(ModelRevision).where(ModelRevision.id == draft.id).values(state="published")
                )


class TestFinding:
    async def test_alias_and_digest_name_the_revision(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            revision = await make_revision(session)
            slug = (await session.get_one(type(await make_model(session)), revision.model_id)).slug
            assert (await model_by_slug(session, slug)).id == revision.model_id
            for pin in ("latest", revision.digest):
                assert (await named_revision(session, read_reference(f"{slug}@{pin}"))).id == revision.id

    @pytest.mark.parametrize("name", ["raymart/none@latest", "\0/\0@latest", f"a/b@sha256:{'0' * 64}"])
    async def test_unknown_name_is_not_found(self, sessions: Sessions, name: str):
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound):
                await named_revision(session, read_reference(name))

    @pytest.mark.parametrize("digest", ["", "\0", "sha256:", "sha256:" + "0" * 64])
    async def test_unknown_digest_is_not_found(self, sessions: Sessions, digest: str):
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound):
                await revision_by_digest(session, digest)
