"""`GET /objects/...` over real HTTP."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from raymart_marketplace.objects import Objects, UrlSigner, object_routes, open_objects
from support.gateway_market import serving
from support.object_settings import object_settings

KEY = "images/org/request/0.png"
CONTENT = bytes(range(256)) * 8192  # 2 MB: several chunks


class Site:
    """Objects served at a real address, with a clock that tests turn."""

    def __init__(self, objects: Objects, url: str, client: httpx.AsyncClient) -> None:
        self.client = client
        self.now = 1_000_000.0
        objects._signer = self.signer(url, b"s" * 32)
        self.objects = objects

    def signer(self, url: str, *secrets: bytes) -> UrlSigner:
        return UrlSigner(f"{url}/objects", secrets, now=lambda: self.now)


@pytest.fixture
async def site(tmp_path) -> AsyncIterator[Site]:
    objects = open_objects(object_settings(data_dir=tmp_path))
    async with serving(Starlette(routes=object_routes(objects))) as url, httpx.AsyncClient() as client:
        site = Site(objects, url, client)
        await objects.put(KEY, CONTENT)
        yield site


class TestGet:
    async def test_a_signed_url_opens_the_object(self, site):
        answer = await site.client.get(await site.objects.signed_url(KEY, expires_s=60))
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-length"] == str(len(CONTENT))
        assert answer.headers["cache-control"] == "private, max-age=60, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"

    async def test_head_tells_the_same_without_a_body(self, site):
        answer = await site.client.head(await site.objects.signed_url(KEY, expires_s=60))
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(CONTENT))

    async def test_what_the_client_has_is_not_sent_again(self, site):
        url = await site.objects.signed_url(KEY, expires_s=60)
        e_tag = (await site.client.head(url)).headers["etag"]
        answer = await site.client.get(url, headers={"if-none-match": e_tag})
        assert (answer.status_code, answer.content) == (304, b"")
        assert (await site.client.get(url, headers={"if-none-match": '"else"'})).status_code == 200

    async def test_other_methods_are_refused(self, site):
        answer = await site.client.delete(await site.objects.signed_url(KEY, expires_s=60))
        assert answer.status_code == 405
        assert await site.objects.find(KEY) is not None

    async def test_an_object_that_is_gone_is_not_found(self, site):
        url = await site.objects.signed_url(KEY, expires_s=60)
        await site.objects.delete([KEY])
        answer = await site.client.get(url)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


class TestRanges:
    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=2097000-", 2_097_000, None),
         ("bytes=-10", -10, None), ("bytes=5-99999999", 5, None)],
    )  # fmt: skip
    async def test_a_range_is_answered_with_its_bytes(self, site, asked, start, end):
        answer = await site.client.get(
            await site.objects.signed_url(KEY, expires_s=60), headers={"range": asked}
        )
        expected = CONTENT[start:end]
        assert (answer.status_code, answer.content) == (206, expected)
        first = len(CONTENT) + start if start < 0 else start
        assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(CONTENT)}"

    @pytest.mark.parametrize("asked", ["bytes=2097152-", "bytes=9999999-10000000", "bytes=-0"])
    async def test_a_range_behind_the_end_is_refused(self, site, asked):
        url = await site.objects.signed_url(KEY, expires_s=60)
        assert (await site.client.get(url, headers={"range": asked})).status_code == 416

    @pytest.mark.parametrize(
        "asked", ["bytes=0-1,5-6", "pages=1-2", "bytes=9-2", "bytes=-", "nonsense", "bytes=0-0x1"]
    )
    async def test_what_is_no_single_range_is_answered_with_the_whole(self, site, asked):
        url = await site.objects.signed_url(KEY, expires_s=60)
        answer = await site.client.get(url, headers={"range": asked})
        assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))

    async def test_a_range_of_another_version_is_answered_with_the_whole(self, site):
        url = await site.objects.signed_url(KEY, expires_s=60)
        e_tag = (await site.client.head(url)).headers["etag"]
        headers = {"range": "bytes=0-1", "if-range": e_tag}
        assert (await site.client.get(url, headers=headers)).status_code == 206
        assert (await site.client.get(url, headers=headers | {"if-range": '"old"'})).status_code == 200

    async def test_all_of_it_as_a_range_is_the_whole(self, site):
        url = await site.objects.signed_url(KEY, expires_s=60)
        answer = await site.client.get(url, headers={"range": "bytes=0-"})
        assert answer.status_code == 200


class TestSignature:
    async def test_an_expired_url_opens_nothing(self, site):
        url = await site.objects.signed_url(KEY, expires_s=60)
        site.now += 59
        answer = await site.client.get(url)
        assert answer.headers["cache-control"] == "private, max-age=1, immutable"
        site.now += 1
        assert (await site.client.get(url)).status_code == 403

    @pytest.mark.parametrize(
        "change",
        [
            lambda url: url.replace("/0.png", "/1.png"),
            lambda url: url.replace("expires=1000060", "expires=1000061"),
            lambda url: url.replace("expires=1000060", f"expires={'9' * 13}"),
            lambda url: url.replace("expires=", "until="),
            lambda url: url.partition("?")[0],
            lambda url: url.partition("&")[0],
            lambda url: f"{url}x",
            lambda url: url.partition("signature=")[0] + "signature=%ff%00",
            lambda url: url.replace("/0.png", "/%2e%2e/request/0.png"),
            lambda url: url.replace("/objects/images", "/objects//images"),
        ],
        ids=["key", "moment", "long-moment", "no-moment", "nothing", "no-signature", "longer", "bytes", "dots", "slash"],
    )  # fmt: skip
    async def test_a_changed_url_opens_nothing(self, site, change):
        await site.objects.put(
            KEY.replace("0.png", "1.png"), CONTENT
        )  # There is something else to be opened.
        changed = change(await site.objects.signed_url(KEY, expires_s=60))
        answer = await site.client.get(changed)
        assert answer.status_code in {403, 404}
        assert answer.json()["error"]["metadata"]["request_id"].startswith("req_")
        assert CONTENT[:100] not in answer.content

    async def test_a_url_with_many_parameters_more_opens_nothing(self, site):
        url = await site.objects.signed_url(KEY, expires_s=60)
        answer = await site.client.get(url + "&more=1" * 20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")

    async def test_urls_of_a_former_secret_still_open_and_others_do_not(self, site):
        url = await site.objects.signed_url(KEY, expires_s=60)
        base = url.partition("/objects")[0]
        site.objects._signer = site.signer(base, b"n" * 32, b"s" * 32)
        assert (await site.client.get(url)).status_code == 200
        site.objects._signer = site.signer(base, b"n" * 32)
        assert (await site.client.get(url)).status_code == 403
