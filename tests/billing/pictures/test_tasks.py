"""Pictures go when their URLs do."""

import os

from raymart_billing.pictures.tasks import PERIODICS, expire_pictures
from raymart_billing.work.registry import collect
from raymart_marketplace.objects import open_objects
from support.object_settings import object_settings


class TestExpirePictures:
    async def test_old_pictures_go_and_all_else_stays(self, tmp_path):
        objects = open_objects(object_settings(data_dir=tmp_path))
        old, young, artifact = "images/o/r/0.png", "images/o/s/0.png", "artifacts/" + "a" * 64
        for key in (old, young, artifact):
            await objects.put(key, b"x")
        for key in (old, artifact):
            os.utime(tmp_path / "objects" / key, (1_000_000_000, 1_000_000_000))
        assert await expire_pictures(objects, ttl_s=60) == 1
        assert await objects.find(old) is None
        assert await objects.find(young) is not None
        assert await objects.find(artifact) is not None
        assert await expire_pictures(objects, ttl_s=60) == 0

    def test_workers_know_of_it(self):
        assert set(PERIODICS) <= set(collect().periodics)
