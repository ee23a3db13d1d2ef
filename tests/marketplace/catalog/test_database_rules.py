"""What the database itself refuses of the registry, even to its owner. Each rule is a trigger of migration 0040."""

import psycopg
import pytest

from raymart_core.ids import new_id
from raymart_core.wire.manifest import Manifest, ManifestFile
from raymart_marketplace.catalog.aliases import publish_as_latest
from raymart_marketplace.catalog.registry_models import Artifact
from raymart_marketplace.catalog.revisions import draft_revision
from raymart_marketplace.catalog.service import ensure_model
from raymart_marketplace.db.session import Sessions, session_scope
from support.market import unique

OTHER = "f" * 64
REFUSED = {
    "a public model is hidden": ("update model set visibility = 'private' where id = %(model)s", "stays public"),
    "a revision gets another engine": ("update model_revision set engine = 'x' where id = %(revision)s", "what its digest says"),
    "a revision gets another source": ("update model_revision set source = 'x' where id = %(revision)s", "what its digest says"),
    "an artifact gets other bytes": (f"update artifact set stored_sha256 = '{OTHER}' where id = %(artifact)s", "what its digest says"),
    "an artifact gets another owner": ("update artifact set organization_id = %(model)s where id = %(artifact)s", "what its digest says"),
    "a file becomes another": ("update revision_file set path = 'x' where revision_id = %(revision)s", "what its digest says"),
    "what an alias names is withdrawn": ("update model_revision set state = 'withdrawn' where id = %(revision)s", "names the revision"),
    "an alias's history is changed": ("update model_alias_change set reason = 'x' where model_id = %(model)s", "stays known"),
    "an alias's history is deleted": ("delete from model_alias_change where model_id = %(model)s", "stays known"),
    "an alias's history is truncated": ("truncate model_alias_change", "stays known"),
}  # fmt: skip


@pytest.fixture
async def rows(sessions: Sessions) -> dict[str, object]:
    """Ids of a model, its revision that is `latest`, and that one's only file."""
    async with session_scope(sessions) as session:
        model = await ensure_model(
            session, slug=f"test/{unique('model')}", name="A", description="", modality="chat", licence="MIT"
        )
        sha256 = new_id().hex * 2
        artifact = Artifact(sha256=sha256, size_bytes=7, stored_sha256=sha256, stored_bytes=7)
        session.add(artifact)
        await session.flush()
        manifest = Manifest(
            engine="llama_cpp",
            files=(ManifestFile(path="m.gguf", bytes=7, sha256=sha256),),
            quantization="q8_0",
            context_length=512,
            capabilities=("chat",),
        )
        draft = await draft_revision(
            session, model=model, manifest=manifest, artifacts={"m.gguf": artifact.id}
        )
        await publish_as_latest(session, revision_id=draft.id)
    return {"model": model.id, "revision": draft.id, "artifact": artifact.id}


@pytest.mark.parametrize("what", REFUSED)
async def test_owner_of_the_database_is_refused(rows: dict[str, object], owner_url: str, what: str):
    statement, because = REFUSED[what]
    with psycopg.connect(owner_url) as owner, pytest.raises(psycopg.Error, match=because):
        owner.execute(statement, rows)


async def test_what_was_withdrawn_is_not_revived(rows: dict[str, object], owner_url: str):
    with psycopg.connect(owner_url) as owner:
        owner.execute("delete from model_alias where model_id = %(model)s", rows)
        owner.execute("update model_revision set state = 'withdrawn' where id = %(revision)s", rows)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="stays withdrawn"):
            owner.execute("update model_revision set state = 'published' where id = %(revision)s", rows)


async def test_only_the_wrapped_key_of_an_artifact_may_change(rows: dict[str, object], owner_url: str):
    with psycopg.connect(owner_url) as owner:
        changed = owner.execute(
            "update artifact set key_id = 'k', sealed_key = '' where id = %(artifact)s", rows
        )
        assert changed.rowcount == 1


async def test_every_move_of_an_alias_is_written_down_whoever_makes_it(
    rows: dict[str, object], owner_url: str
):
    with psycopg.connect(owner_url) as owner:
        owner.execute("update model_alias set reason = 'by hand' where model_id = %(model)s", rows)
        owner.execute("delete from model_alias where model_id = %(model)s", rows)
        found = owner.execute(
            "select change, before_id, after_id, reason from model_alias_change where model_id = %(model)s order by id",
            rows,
        ).fetchall()
    revision = rows["revision"]
    assert found == [
        ("set", None, revision, ""),
        ("set", revision, revision, "by hand"),
        ("removed", revision, None, ""),
    ]
