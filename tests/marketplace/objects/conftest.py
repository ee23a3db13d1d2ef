"""A store on disk and one in a small S3."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raymart_marketplace.objects import Objects, open_objects
from support.object_settings import object_settings
from support.s3_server import ACCESS_KEY_ID, BUCKET, REGION, SECRET_ACCESS_KEY, S3Server, s3_server


@pytest.fixture
def on_disk(tmp_path: Path) -> Objects:
    return open_objects(object_settings(data_dir=tmp_path))


@pytest.fixture
async def s3() -> AsyncIterator[tuple[S3Server, str]]:
    async with s3_server() as server:
        yield server


@pytest.fixture
def in_s3(s3: tuple[S3Server, str]) -> Objects:
    return open_objects(
        object_settings(
            objects_url=f"s3://{BUCKET}/some/prefix", objects_endpoint=s3[1], objects_region=REGION,
            objects_access_key_id=ACCESS_KEY_ID, objects_secret_access_key=SECRET_ACCESS_KEY,
        )
    )  # fmt: skip


@pytest.fixture(params=["disk", "s3"])
def objects(request: pytest.FixtureRequest) -> Objects:
    return request.getfixturevalue("on_disk" if request.param == "disk" else "in_s3")
