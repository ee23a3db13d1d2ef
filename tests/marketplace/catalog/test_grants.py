import asyncio
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import update

from raymart_core.errors import Forbidden, InvalidRequest, NotFound, Unavailable
from raymart_core.ids import new_id
from raymart_core.wire.manifest import Manifest, ManifestFile
from raymart_marketplace.catalog.grants import load_grant
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.catalog.registry_models import Access, Artifact
from raymart_marketplace.catalog.revisions import draft_revision, publish, withdraw
from raymart_marketplace.catalog.service import ensure_model
from raymart_marketplace.catalog.sharing import end_share, may_host, share_model, shares
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.endpoints import endpoint_facts
from raymart_marketplace.supply.models import Node, Placement, Pool, Provider, ProviderState
from raymart_marketplace.supply.placements import desired
from raymart_marketplace.supply.service import open_offer, revoke_node
from support.market import make_customer, make_node, make_pool, make_provider, make_revision, unique

KEYS = ModelKeys([b"key" * 20])


@dataclass(frozen=True)
class Private:
    """A private model of one organization, and a provider of another with a machine."""

    owner: UUID
    model: Model
    revision: ModelRevision
    data_key: bytes
    provider: Provider
    pool: Pool
    node: Node


@pytest.fixture
async def private(sessions: Sessions) -> Private:
    async with session_scope(sessions) as session:
        owner = (await make_customer(session)).organization_id
        model = await ensure_model(
            session,
            slug=f"test/{unique('model')}",
            name="A model",
            description="",
            modality="chat",
            licence="MIT",
            organization_id=owner,
        )
        data_key, sha256 = KEYS.new_key(), new_id().hex * 2
        key_id, wrapped = KEYS.wrap(data_key, sha256=sha256, organization_id=owner)
        artifact = Artifact(
            organization_id=owner,
            sha256=sha256,
            size_bytes=7,
            stored_sha256="b" * 64,
            stored_bytes=43,
            key_id=key_id,
            sealed_key=wrapped,
        )
        session.add(artifact)
        await session.flush()
        manifest = Manifest(
            engine="llama_cpp",
            files=(ManifestFile(path="m.gguf", bytes=7, sha256=sha256),),
            quantization="q8_0",
            context_length=512,
            capabilities=("chat",),
            parameters={"pooling": "mean"},
        )
        draft = await draft_revision(
            session, model=model, manifest=manifest, artifacts={"m.gguf": artifact.id}
        )
        revision = await publish(session, revision_id=draft.id)
        provider = await make_provider(session)
        pool = await make_pool(session, owner=provider)
        node = await make_node(session, pool=pool, provider=provider)
    return Private(owner, model, revision, data_key, provider, pool, node)


async def share(sessions: Sessions, private: Private, access: Access = Access.HOST) -> None:
    async with session_scope(sessions) as session:
        await share_model(
            session,
            model=private.model,
            organization_id=private.provider.organization_id,
            access=access,
            actor_id=None,
        )


async def offer(sessions: Sessions, private: Private) -> None:
    async with session_scope(sessions) as session:
        await open_offer(
            session,
            provider_id=private.provider.id,
            revision_id=private.revision.id,
            ask_prompt_nano_usd=1,
            ask_completion_nano_usd=1,
        )


async def grant(sessions: Sessions, private: Private, *, keys: ModelKeys = KEYS):
    async with session_scope(sessions) as session:
        return await load_grant(session, node_id=private.node.id, digest=private.revision.digest, keys=keys)


class TestGrant:
    async def test_node_that_is_to_run_it_gets_files_and_keys(self, sessions: Sessions, private: Private):
        await share(sessions, private)
        await offer(sessions, private)
        found = await grant(sessions, private)
        [file] = found.files
        assert found.manifest.digest() == private.revision.digest == found.digest
        assert (file.path, file.size_bytes, file.stored_bytes) == ("m.gguf", 7, 43)
        assert file.object_key == f"artifacts/{'b' * 64}"
        assert file.data_key == private.data_key
        assert repr(private.data_key)[2:-1] not in repr(found)

    async def test_placement_carries_what_the_manifest_sets_of_the_engine(
        self, sessions: Sessions, private: Private
    ):
        await share(sessions, private)
        await offer(sessions, private)
        async with session_scope(sessions) as session:
            [placement] = await desired(session, private.pool.id)
        assert (placement.source, placement.parameters) == (
            f"registry:{private.revision.digest}",
            {"pooling": "mean"},
        )

    async def test_node_without_a_placement_gets_nothing(self, sessions: Sessions, private: Private):
        await share(sessions, private)
        with pytest.raises(Forbidden, match="not to run"):
            await grant(sessions, private)

    @pytest.mark.parametrize("what", ["share", "revoked", "suspended", "withdrawn", "unwanted"])
    async def test_who_may_not_serve_it_any_more_gets_nothing(
        self, sessions: Sessions, private: Private, what: str
    ):
        await share(sessions, private)
        await offer(sessions, private)
        organization_id = private.provider.organization_id
        async with session_scope(sessions) as session:
            if what == "share":
                await end_share(session, model_id=private.model.id, organization_id=organization_id)
            elif what == "revoked":
                await revoke_node(session, node_id=private.node.id)
            elif what == "suspended":
                statement = update(Provider).where(Provider.id == private.provider.id)
                await session.execute(statement.values(state=ProviderState.SUSPENDED))
            elif what == "withdrawn":
                await withdraw(session, revision_id=private.revision.id)
            else:
                await session.execute(
                    update(Placement).where(Placement.node_id == private.node.id).values(desired=False)
                )
        with pytest.raises(Forbidden, match="not to run"):
            await grant(sessions, private)

    async def test_ended_share_leaves_placements_and_routing(self, sessions: Sessions, private: Private):
        await share(sessions, private)
        await offer(sessions, private)
        async with session_scope(sessions) as session:
            assert len(await desired(session, private.pool.id)) == 1
            [facts] = await endpoint_facts(session, private.node.id, [private.revision.digest])
            assert facts.audience == {private.owner, private.provider.organization_id}
            await end_share(
                session, model_id=private.model.id, organization_id=private.provider.organization_id
            )
            assert await desired(session, private.pool.id) == ()
            assert await endpoint_facts(session, private.node.id, [private.revision.digest]) == []

    async def test_lost_wrapping_key_is_said(self, sessions: Sessions, private: Private):
        await share(sessions, private)
        await offer(sessions, private)
        with pytest.raises(Unavailable, match="RAYMART_MODEL_KEY"):
            await grant(sessions, private, keys=ModelKeys([b"other" * 20]))

    async def test_bundled_revision_is_not_in_the_store(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider, revision = await make_provider(session), await make_revision(session)
            node = await make_node(session, pool=await make_pool(session, owner=provider), provider=provider)
            await open_offer(
                session,
                provider_id=provider.id,
                revision_id=revision.id,
                ask_prompt_nano_usd=1,
                ask_completion_nano_usd=1,
            )
            with pytest.raises(NotFound, match="engine's package"):
                await load_grant(session, node_id=node.id, digest=revision.digest, keys=KEYS)

    @pytest.mark.parametrize("digest", ["", "\0", "sha256:x"])
    async def test_bad_digest_is_not_found(self, sessions: Sessions, digest: str):
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound):
                await load_grant(session, node_id=new_id(), digest=digest, keys=KEYS)


class TestSharing:
    async def test_use_is_not_to_serve(self, sessions: Sessions, private: Private):
        await share(sessions, private, Access.USE)
        with pytest.raises(NotFound, match="no revision"):
            await offer(sessions, private)
        await share(sessions, private, Access.HOST)
        await offer(sessions, private)

    async def test_owner_may_serve_and_strangers_may_not(self, sessions: Sessions, private: Private):
        async with session_scope(sessions) as session:
            for organization_id, may in ((private.owner, True), (new_id(), False)):
                assert (
                    await may_host(session, model_id=private.model.id, organization_id=organization_id) is may
                )
            assert not await may_host(session, model_id=new_id(), organization_id=private.owner)

    async def test_ended_share_is_revived(self, sessions: Sessions, private: Private):
        organization_id = private.provider.organization_id
        await share(sessions, private)
        async with session_scope(sessions) as session:
            for _ in range(2):
                await end_share(session, model_id=private.model.id, organization_id=organization_id)
            assert await shares(session, private.model.id) == []
        await asyncio.gather(*(share(sessions, private, Access.USE) for _ in range(3)))
        async with session_scope(sessions) as session:
            [found] = await shares(session, private.model.id)
        assert (found.access, found.ended_at) == (Access.USE, None)

    async def test_what_makes_no_sense_is_refused(self, sessions: Sessions, private: Private):
        async with session_scope(sessions) as session:
            public = await session.get_one(Model, (await make_revision(session)).model_id)
            for model, organization_id, error in (
                (public, private.owner, InvalidRequest),
                (private.model, private.owner, InvalidRequest),
                (private.model, new_id(), NotFound),
            ):
                with pytest.raises(error):
                    await share_model(
                        session,
                        model=model,
                        organization_id=organization_id,
                        access=Access.USE,
                        actor_id=None,
                    )
            with pytest.raises(NotFound):
                await end_share(session, model_id=private.model.id, organization_id=new_id())
