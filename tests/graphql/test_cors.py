"""Which pages may call inference from a visitor's browser: those that the operator names, and none by default."""

import pytest_asyncio

from support.api_server import api_server, control_settings

ORIGIN = "https://app.example.com"
PATHS = (
    "/v1/chat/completions",
    "/v1/models",
    "/v1/embeddings",
    "/v1/key",
    "/completion",
    "/sdapi/v1/txt2img",
)


def preflight(origin):
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }


@pytest_asyncio.fixture(loop_scope="session")
async def open_api(database_url):
    async with api_server(control_settings(database_url, allowed_origins=ORIGIN)) as api:
        yield api


class TestInference:
    async def test_a_named_page_may_ask_and_read_the_answer(self, open_api):
        for path in PATHS:
            asked = await open_api.client.options(path, headers=preflight(ORIGIN))
            assert asked.status_code == 200, path
            assert asked.headers["access-control-allow-origin"] == ORIGIN
            assert "x-stainless-os" in asked.headers["access-control-allow-headers"]
        refused = await open_api.client.post("/v1/chat/completions", json={}, headers={"origin": ORIGIN})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == ORIGIN
        assert "x-request-id" in refused.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in refused.headers

    async def test_another_page_may_not(self, open_api):
        asked = await open_api.client.options(
            "/v1/chat/completions", headers=preflight("https://evil.example")
        )
        assert asked.status_code == 400
        assert "access-control-allow-origin" not in asked.headers

    async def test_by_default_no_page_may(self, api):
        for path in PATHS:
            asked = await api.client.options(path, headers=preflight(ORIGIN))
            assert asked.status_code in (401, 405), path
            assert not [name for name in asked.headers if name.startswith("access-control")]
