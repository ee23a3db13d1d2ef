"""Whatever goes wrong on a REST route has a code, a sentence and an id."""

import asyncio

import pytest

from support.api_server import Api


def error_of(response):
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "metadata"}
    assert response.headers["x-request-id"] == error["metadata"]["request_id"]
    return error


class TestHandleFailures:
    async def test_unknown_path_is_a_coded_404(self, api: Api):
        missing = await api.client.get("/nowhere")
        assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")

    async def test_wrong_method_names_the_right_ones(self, api: Api):
        wrong = await api.client.put("/worker/v1/challenges")
        assert (wrong.status_code, error_of(wrong)["code"]) == (405, "method_not_allowed")
        assert wrong.headers["allow"] == "POST"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"5",
            b"null",
            b'{"node_id": "\xff"}',
            b'{"node_id": NaN}',
            b'{"node_id": "\\ud800"}',
            b"[" * 100_000,
            b'{"node_id": ' + b"9" * 5_000 + b"}",
            b'{"node_id": "node_1"}',
        ],
    )
    async def test_broken_body_is_a_coded_400(self, api: Api, body):
        refused = await api.client.post(
            "/worker/v1/challenges", content=body, headers={"content-type": "application/json"}
        )
        assert refused.status_code in {400, 413}, refused.text
        assert error_of(refused)["code"] in {"invalid_request", "payload_too_large"}

    async def test_large_body_is_refused_before_it_is_read(self, api: Api):
        large = await api.client.post("/worker/v1/challenges", content=b"x" * 100_000)
        assert (large.status_code, error_of(large)["code"]) == (413, "payload_too_large")

    async def test_message_holds_no_secret_that_was_sent(self, api: Api):
        refused = await api.client.post("/worker/v1/enrolments", json={"join_token": ["rmj_secret"]})
        assert refused.status_code == 400
        assert "rmj_secret" not in refused.text

    async def test_slow_body_is_given_up(self, api: Api, monkeypatch):
        monkeypatch.setattr("raymart_graphql.body.BODY_TIMEOUT_S", 0.2)

        async def slowly():
            yield b"{"
            await asyncio.sleep(2)
            yield b"}"

        refused = await api.client.post("/worker/v1/challenges", content=slowly())
        assert refused.status_code == 400
