import asyncio
import time

import pytest
from sqlalchemy import func, select

from raymart_core.errors import InvalidRequest, ModelNotFound
from raymart_marketplace.catalog.models import Modality, Model, ModelRevision, RevisionState
from raymart_marketplace.catalog.service import (
    all_models,
    ensure_model,
    model_by_slug,
    nearest_slug,
    publish_revision,
    revisions,
)
from raymart_marketplace.db.session import Sessions, session_scope
from support.market import make_revision, put_in_state, unique

SLUGS = ("raymart/demo-chat", "raymart/demo-image", "acme/llama-3.1-8b", "acme/llama-3.1-70b")


async def make_model(session) -> Model:
    return await ensure_model(
        session,
        slug=f"test/{unique('model')}",
        name="A model",
        description="",
        modality=Modality.CHAT,
        licence="Apache-2.0",
    )


class TestNearestSlug:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("raymart/demo-chat", "raymart/demo-chat"),
            ("raymart/demo-chatt", "raymart/demo-chat"),
            ("Raymart/Demo-Chat", "raymart/demo-chat"),
            ("demo-chat", "raymart/demo-chat"),
            ("demo_chat", "raymart/demo-chat"),
            ("openrouter/demo-chat", "raymart/demo-chat"),
            ("llama-3.1-8b", "acme/llama-3.1-8b"),
            ("acme/llama-3.1-70B", "acme/llama-3.1-70b"),
            ("meta/llama-3.1-70b", "acme/llama-3.1-70b"),
            ("an-organization-with-a-very-long-name/demo-chat", "raymart/demo-chat"),
        ],
    )
    def test_names_the_one_that_was_meant(self, typed: str, meant: str):
        assert nearest_slug(typed, SLUGS) == meant

    @pytest.mark.parametrize("typed", ["", "gpt-5", "x", "\0", "/", "\ud800"])
    def test_names_none_when_none_is_alike(self, typed: str):
        assert nearest_slug(typed, SLUGS) is None

    def test_empty_catalog_names_none(self):
        assert nearest_slug("raymart/demo-chat", ()) is None

    def test_long_text_is_cheap(self):
        """A body may hold two million characters, and this runs on the loop that streams for everybody."""
        begin = time.process_time()
        assert nearest_slug("demo-chat" * 1_000_000, SLUGS) is None
        assert time.process_time() - begin < 1.0


class TestModelBySlug:
    async def test_known_slug_gives_the_model(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            model = await make_model(session)
            assert (await model_by_slug(session, model.slug)).id == model.id
            assert model.id in {each.id for each in await all_models(session)}

    async def test_unknown_slug_names_the_nearest(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            model = await make_model(session)
            with pytest.raises(ModelNotFound, match="did you mean") as refusal:
                await model_by_slug(session, f"{model.slug}x")
        assert refusal.value.nearest == model.slug
        assert refusal.value.param == "model"
        assert refusal.value.status == 404

    @pytest.mark.parametrize(
        "slug", ["", "\0", "\ud800", "a/b\0", "a" * 100_000, "../../etc/passwd", "a/b/c"]
    )
    async def test_what_is_no_slug_is_not_found_and_no_error(self, sessions: Sessions, slug: str):
        async with session_scope(sessions) as session:
            with pytest.raises(ModelNotFound) as refusal:
                await model_by_slug(session, slug)
        assert len(refusal.value.message) < 400


class TestEnsureModel:
    async def test_repeat_leaves_the_first(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            model = await make_model(session)
            again = await ensure_model(
                session,
                slug=model.slug,
                name="Another name",
                description="",
                modality=Modality.CHAT,
                licence="MIT",
            )
        assert (again.id, again.name, again.licence) == (model.id, "A model", "Apache-2.0")

    @pytest.mark.parametrize("slug", ["demo", "Raymart/demo", "a/b/c", "/a", "a/", "a/" + "b" * 100, "a/ b"])
    async def test_bad_slug_is_refused(self, sessions: Sessions, slug: str):
        async with session_scope(sessions) as session:
            with pytest.raises(InvalidRequest, match="raymart/demo-chat"):
                await ensure_model(
                    session, slug=slug, name="a", description="", modality=Modality.CHAT, licence="MIT"
                )


class TestPublishRevision:
    async def test_repeat_returns_the_same(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            model = await make_model(session)

        async def publish():
            async with session_scope(sessions) as session:
                return await _publish(session, model)

        made = await asyncio.gather(*(publish() for _ in range(8)))
        assert len({revision.id for revision in made}) == 1
        async with session_scope(sessions) as session:
            rows = await session.scalar(select(func.count()).where(ModelRevision.model_id == model.id))
        assert rows == 1

    async def test_other_weights_are_another_revision_newest_first(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            model = await make_model(session)
            first = await make_revision(session, model=model)
            second = await make_revision(session, model=model)
            assert [each.id for each in await revisions(session, model)] == [second.id, first.id]

    @pytest.mark.parametrize(
        ("state", "after"),
        [
            (RevisionState.DRAFT, RevisionState.PUBLISHED),
            (RevisionState.DEPRECATED, RevisionState.DEPRECATED),
            (RevisionState.WITHDRAWN, RevisionState.WITHDRAWN),
        ],
    )
    async def test_repeat_publishes_a_draft_and_revives_nothing(self, sessions: Sessions, state, after):
        async with session_scope(sessions) as session:
            model = await make_model(session)
            revision = await _publish(session, model)
            await put_in_state(session, revision, state)
            assert (await _publish(session, model)).state is after

    async def test_weights_of_another_model_are_refused(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            mine, other = await make_model(session), await make_model(session)
            revision = await _publish(session, mine)
            with pytest.raises(InvalidRequest, match=revision.digest):
                await _publish(session, other, weights=mine.id.hex * 2)

    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"sha256": "a" * 63}, "sha256"),
            ({"sha256": "A" * 64}, "sha256"),
            ({"context_length": 0}, "context_length"),
        ],
    )
    async def test_bad_field_is_named(self, sessions: Sessions, change, param):
        async with session_scope(sessions) as session:
            model = await make_model(session)
            fields = {
                "engine": "e",
                "source": "s",
                "sha256": "a" * 64,
                "quantization": "q",
                "context_length": 1,
            }
            with pytest.raises(InvalidRequest) as refusal:
                await publish_revision(session, model=model, **(fields | change))
        assert refusal.value.param == param


async def _publish(session, model: Model, *, weights: str | None = None) -> ModelRevision:
    """A revision whose weights are the model's own, unless given."""
    return await publish_revision(
        session,
        model=model,
        engine="llama_cpp",
        source="bundled:demo-llm.gguf",
        sha256=weights or model.id.hex * 2,
        quantization="q8_0",
        context_length=1_024,
    )
