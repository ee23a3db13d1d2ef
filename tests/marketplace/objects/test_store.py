"""The store, on disk and in S3 alike."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from raymart_core.errors import NotFound, Unavailable
from raymart_core.ids import new_id
from raymart_marketplace.objects import Objects, artifact_key, image_key, media_type, open_objects
from support.object_settings import object_settings

KEY = "images/org/request/0.png"
MEGABYTE = 1 << 20


async def read(objects: Objects, key: str, **part: int) -> bytes:
    reading = await objects.open(key, **part)
    return b"".join([chunk async for chunk in reading.chunks()])


class TestPut:
    async def test_what_was_put_is_read_back_whole(self, objects):
        await objects.put(KEY, b"an image")
        assert await objects.get(KEY, bytes_max=100) == b"an image"
        stored = await objects.head(KEY)
        assert (stored.key, stored.size_bytes) == (KEY, 8)

    async def test_a_file_and_a_stream_of_many_parts_are_put_too(self, objects, tmp_path: Path):
        content = b"".join(bytes([number]) * MEGABYTE for number in range(12))
        file = tmp_path / "large"
        file.write_bytes(content)

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(12):
                yield bytes([number]) * MEGABYTE

        await objects.put("artifacts/a", file)
        await objects.put("artifacts/b", pieces())
        assert await objects.get("artifacts/a", bytes_max=len(content)) == content
        assert await objects.get("artifacts/b", bytes_max=len(content)) == content

    async def test_a_stream_that_fails_leaves_nothing(self, objects):
        async def pieces() -> AsyncIterator[bytes]:
            yield b"x" * 6 * MEGABYTE
            raise RuntimeError("the sender left")

        with pytest.raises(RuntimeError, match="the sender left"):
            await objects.put("artifacts/a", pieces())
        assert await objects.find("artifacts/a") is None
        assert [page async for page in objects.list("artifacts/")] in ([], [[]])

    async def test_a_second_put_replaces_the_first(self, objects):
        await objects.put(KEY, b"old")
        first = await objects.head(KEY)
        await objects.put(KEY, b"new and longer")
        assert await objects.get(KEY, bytes_max=100) == b"new and longer"
        assert (await objects.head(KEY)).e_tag != first.e_tag

    async def test_s3_is_told_what_an_image_is(self, in_s3, s3):
        await in_s3.put(KEY, b"an image")
        assert s3[0].media_types == {f"some/prefix/{KEY}": "image/png"}


class TestOpen:
    async def test_a_range_has_its_bytes_and_no_others(self, objects):
        await objects.put(KEY, bytes(range(100)))
        assert await read(objects, KEY, start=10, end=20) == bytes(range(10, 20))
        assert await read(objects, KEY, start=90) == bytes(range(90, 100))
        assert await read(objects, KEY, start=90, end=1_000) == bytes(range(90, 100))

    @pytest.mark.parametrize(("start", "end"), [(100, None), (100, 101), (5, 5), (6, 5), (-1, 5)])
    async def test_a_range_without_bytes_is_refused(self, objects, start, end):
        await objects.put(KEY, bytes(range(100)))
        with pytest.raises(ValueError, match="byte"):
            await objects.open(KEY, start=start, end=end)

    async def test_an_object_that_is_not_there_is_not_found(self, objects):
        for ask in (
            objects.open(KEY),
            objects.open(KEY, start=1),
            objects.head(KEY),
            objects.get(KEY, bytes_max=9),
        ):
            with pytest.raises(NotFound, match="there is no object"):
                await ask
        assert await objects.find(KEY) is None

    async def test_more_than_is_allowed_into_memory_is_not_read(self, objects):
        await objects.put(KEY, b"12345")
        with pytest.raises(ValueError, match="5 bytes, more than 4"):
            await objects.get(KEY, bytes_max=4)


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        ["", "/etc/passwd", "../x", "images/../../x", "a//b", "a/", "a/.hidden", "a\x00b", "a\nb", "a b", "ä", "x" * 513,
         "a/b#1", "C:\\x"],
        ids=lambda key: f"{len(key)}-{key.encode().hex()[:20]}",
    )  # fmt: skip
    async def test_a_key_that_leads_elsewhere_names_nothing(self, on_disk, key):
        for ask in (on_disk.put(key, b""), on_disk.open(key), on_disk.head(key), on_disk.delete([key]),
                    on_disk.signed_url(key, expires_s=60)):  # fmt: skip
            with pytest.raises(NotFound):
                await ask

    def test_keys_of_images_and_artifacts_can_be_used(self):
        organization, request = new_id(), new_id()
        assert image_key(organization, request, 3) == f"images/{organization}/{request}/3.png"
        assert artifact_key("a" * 64) == f"artifacts/{'a' * 64}"
        with pytest.raises(AssertionError):
            artifact_key("A" * 64)

    def test_the_name_says_what_an_object_is(self):
        assert media_type(KEY) == "image/png"
        assert media_type("artifacts/abc") == "application/octet-stream"


class TestDelete:
    async def test_deleted_objects_are_gone_and_others_stay(self, objects):
        for key in ("images/a/0.png", "images/a/1.png", "images/b/0.png"):
            await objects.put(key, b"x")
        await objects.delete(["images/a/0.png", "images/a/1.png", "images/never/was.png"])
        left = [each.key async for page in objects.list("images/") for each in page]
        assert left == ["images/b/0.png"]


class TestList:
    async def test_a_folder_lists_what_is_below_it_alone(self, objects):
        for key in ("images/a/0.png", "images/ab/0.png", "artifacts/x"):
            await objects.put(key, b"xy")
        found = [(each.key, each.size_bytes) async for page in objects.list("images/a/") for each in page]
        assert found == [("images/a/0.png", 2)]


class TestAway:
    async def test_a_store_that_fails_is_unavailable_and_its_words_stay_inside(self, in_s3, s3):
        s3[0].refuse_all = True
        with pytest.raises(Unavailable) as failed:
            await in_s3.open(KEY)
        assert "127.0.0.1" not in failed.value.message

    async def test_without_a_place_for_files_everything_is_refused(self):
        nowhere = open_objects(object_settings())
        for ask in (
            nowhere.put(KEY, b""),
            nowhere.open(KEY),
            nowhere.head(KEY),
            nowhere.signed_url(KEY, expires_s=1),
        ):
            with pytest.raises(Unavailable, match="RAYMART_OBJECTS_URL"):
                await ask


class TestSignedUrl:
    async def test_s3_signs_and_serves_by_itself(self, in_s3, s3):
        await in_s3.put(KEY, b"an image")
        url = await in_s3.signed_url(KEY, expires_s=60)
        async with httpx.AsyncClient() as client:
            answer = await client.get(url)
            assert (answer.status_code, answer.content) == (200, b"an image")
            assert (await client.get(url, headers={"range": "bytes=3-4"})).content == b"im"
            other = url.replace("/0.png", "/1.png")
            assert (await client.get(other)).status_code == 403

    async def test_a_folder_of_files_is_private_to_its_owner(self, on_disk, tmp_path: Path):
        await on_disk.put(KEY, b"an image")
        assert (tmp_path / "objects").stat().st_mode & 0o077 == 0
        assert (tmp_path / "objects" / KEY).read_bytes() == b"an image"

    async def test_a_folder_can_be_named_by_url(self, tmp_path: Path):
        objects = open_objects(object_settings(objects_url=f"file://{tmp_path}/else%20where"))
        await objects.put(KEY, b"x")
        assert (tmp_path / "else where" / KEY).exists()
