import asyncio
import hashlib
import secrets
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from raymart_core.errors import Conflict, Unavailable
from raymart_core.wire.sealed import HEADER_BYTES, ArtifactKey, read_header
from raymart_marketplace.catalog.artifacts import ArtifactStore
from raymart_marketplace.catalog.model_keys import ModelKeys, rewrap
from raymart_marketplace.catalog.registry_models import Artifact
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.objects import Objects, open_objects
from support.market import make_customer
from support.object_settings import object_settings

OLD, NEW = b"old" * 20, b"new" * 20


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects(object_settings(data_dir=tmp_path / "data"))


@pytest.fixture
async def owner(sessions: Sessions) -> UUID:
    async with session_scope(sessions) as session:
        return (await make_customer(session)).organization_id


def make_file(folder: Path, size: int = 3_000_000) -> tuple[Path, str]:
    content = secrets.token_bytes(size)
    path = folder / hashlib.sha256(content).hexdigest()[:10]
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


async def stored(objects: Objects, artifact: Artifact) -> bytes:
    return await objects.get(artifact.object_key, bytes_max=10_000_000)


def opened(sealed: bytes, data_key: bytes) -> bytes:
    cipher = ArtifactKey(data_key, read_header(sealed[:HEADER_BYTES]))
    return b"".join(cipher.open_all([sealed[HEADER_BYTES:]]))


class TestPut:
    async def test_public_file_lies_as_it_is_once(self, sessions: Sessions, objects: Objects, tmp_path: Path):
        store = ArtifactStore(sessions, objects, ModelKeys([]))
        path, sha256 = make_file(tmp_path)
        told: list[int] = []
        made = await store.put(path, sha256=sha256, organization_id=None, advance=told.append)
        again = await store.put(path, sha256=sha256, organization_id=None, advance=told.append)
        assert made.id == again.id
        assert await stored(objects, made) == path.read_bytes()
        assert sum(told) == 2 * path.stat().st_size
        assert made.object_key == f"artifacts/{sha256}"

    async def test_private_file_is_sealed_and_opens_with_its_key_alone(
        self, sessions: Sessions, objects: Objects, tmp_path: Path, owner: UUID
    ):
        keys = ModelKeys([NEW])
        path, sha256 = make_file(tmp_path)
        made = await ArtifactStore(sessions, objects, keys).put(
            path, sha256=sha256, organization_id=owner, advance=lambda _: None
        )
        sealed = await stored(objects, made)
        assert hashlib.sha256(sealed).hexdigest() == made.stored_sha256 != sha256
        assert path.read_bytes()[:64] not in sealed
        assert opened(sealed, keys.unwrap(made)) == path.read_bytes()
        with pytest.raises(Unavailable, match="RAYMART_MODEL_KEY"):
            ModelKeys([OLD]).unwrap(made)

    async def test_two_organizations_share_no_key(
        self, sessions: Sessions, objects: Objects, tmp_path: Path, owner: UUID
    ):
        keys = ModelKeys([NEW])
        store = ArtifactStore(sessions, objects, keys)
        async with session_scope(sessions) as session:
            other = (await make_customer(session)).organization_id
        path, sha256 = make_file(tmp_path, 10)
        made = [
            await store.put(path, sha256=sha256, organization_id=each, advance=lambda _: None)
            for each in (owner, other, None)
        ]
        assert len({each.id for each in made}) == 3
        assert keys.unwrap(made[0]) != keys.unwrap(made[1])

    async def test_private_file_without_a_key_is_refused(
        self, sessions: Sessions, objects: Objects, tmp_path: Path, owner: UUID
    ):
        path, sha256 = make_file(tmp_path, 10)
        with pytest.raises(Unavailable, match="openssl rand"):
            await ArtifactStore(sessions, objects, ModelKeys([])).put(
                path, sha256=sha256, organization_id=owner, advance=lambda _: None
            )

    async def test_file_that_is_not_its_digest_leaves_nothing(
        self, sessions: Sessions, objects: Objects, tmp_path: Path
    ):
        store = ArtifactStore(sessions, objects, ModelKeys([]))
        path, _ = make_file(tmp_path)
        wrong = secrets.token_hex(32)
        with pytest.raises(Conflict, match="changed meanwhile"):
            await store.put(path, sha256=wrong, organization_id=None, advance=lambda _: None)
        assert await objects.find(f"artifacts/{wrong}") is None
        assert await store.find(wrong, organization_id=None) is None

    @pytest.mark.parametrize("is_private", [False, True])
    async def test_lost_object_is_made_again_as_it_was(
        self, sessions: Sessions, objects: Objects, tmp_path: Path, owner: UUID, is_private: bool
    ):
        store = ArtifactStore(sessions, objects, ModelKeys([NEW]))
        organization_id = owner if is_private else None
        path, sha256 = make_file(tmp_path)
        made = await store.put(path, sha256=sha256, organization_id=organization_id, advance=lambda _: None)
        before = await stored(objects, made)
        await objects.delete([made.object_key])
        assert await store.find(sha256, organization_id=organization_id) is None
        await store.put(path, sha256=sha256, organization_id=organization_id, advance=lambda _: None)
        assert await stored(objects, made) == before

    async def test_the_same_at_once_is_one_row(
        self, sessions: Sessions, objects: Objects, tmp_path: Path, owner: UUID
    ):
        keys = ModelKeys([NEW])
        store = ArtifactStore(sessions, objects, keys)
        path, sha256 = make_file(tmp_path)
        made = await asyncio.gather(
            *(store.put(path, sha256=sha256, organization_id=owner, advance=lambda _: None) for _ in range(3))
        )
        assert len({each.id for each in made}) == 1
        assert opened(await stored(objects, made[0]), keys.unwrap(made[0])) == path.read_bytes()


class TestRewrap:
    async def test_new_key_opens_and_the_file_stays(
        self, sessions: Sessions, objects: Objects, tmp_path: Path, owner: UUID
    ):
        path, sha256 = make_file(tmp_path, 100)
        store = ArtifactStore(sessions, objects, ModelKeys([OLD]))
        made = await store.put(path, sha256=sha256, organization_id=owner, advance=lambda _: None)
        # What other tests sealed is wrapped with keys that this one does not have.
        async with session_scope(sessions) as session:
            before = made.id
            previous = await session.scalar(
                select(Artifact.id).where(Artifact.id < before).order_by(Artifact.id.desc()).limit(1)
            )
            count, _ = await rewrap(session, ModelKeys([NEW, OLD]), after_id=previous)
            again, _ = await rewrap(session, ModelKeys([NEW, OLD]), after_id=previous)
        assert (count, again) == (1, 0)
        async with session_scope(sessions) as session:
            found = await session.get_one(Artifact, made.id)
        assert found.key_id != made.key_id
        assert ModelKeys([NEW]).unwrap(found) == ModelKeys([OLD]).unwrap(made)
        assert opened(await stored(objects, found), ModelKeys([NEW]).unwrap(found)) == path.read_bytes()

    async def test_wrapped_key_of_another_file_does_not_open(self, sessions: Sessions, owner: UUID):
        keys = ModelKeys([NEW])
        key_id, wrapped = keys.wrap(keys.new_key(), sha256="a" * 64, organization_id=owner)
        stolen = Artifact(sha256="b" * 64, organization_id=owner, key_id=key_id, sealed_key=wrapped)
        with pytest.raises(Unavailable, match="cannot be unwrapped"):
            keys.unwrap(stolen)
