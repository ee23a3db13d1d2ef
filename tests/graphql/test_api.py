"""Requests for inference are handed over before FastAPI does anything; all else goes through it."""

from collections.abc import Iterator

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from raymart_graphql.api import Api, direct_paths
from raymart_marketplace.gateway.endpoint import Endpoint


class Hot(Endpoint):
    method = "POST"

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, scope, receive, send) -> None:
        await PlainTextResponse(f"{self.name} {'app' in scope}")(scope, receive, send)

    async def serve(self, caller, scope, receive, answer) -> None:
        raise AssertionError


async def cold(request) -> PlainTextResponse:
    return PlainTextResponse(f"cold {'app' in request.scope}")


ROUTES = [
    Route("/v1/hot", Hot("first")),
    Route("/v1/hot", Hot("second")),
    Route("/v1/hot/{name}", Hot("named")),
    Route("/v1/cold", cold),
]


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Api(routes=ROUTES)) as client:
        yield client


def test_inference_is_served_before_the_application(client):
    assert client.post("/v1/hot").text == "first False"


async def test_every_path_of_inference_answers_for_itself(api):
    """What an endpoint needs of the scope is there without the router: a list of models lacked it once."""
    tenant = await api.tenant()
    _, key = await api.api_key(tenant)
    headers = {"authorization": f"Bearer {key}"}
    paths = direct_paths(api.app.routes)
    assert "/v1/models" in paths
    for path in paths:
        for answer in (
            await api.client.get(path, headers=headers),
            await api.client.post(path, headers=headers, json={}),
        ):
            assert answer.status_code != 500, (path, answer.text)
    assert (await api.client.get("/v1/models", headers=headers)).status_code == 200


def test_a_path_with_parameters_goes_through_the_application(client):
    assert client.post("/v1/hot/x").text == "named True"
    assert list(direct_paths(ROUTES)) == ["/v1/hot"]


def test_what_is_no_inference_goes_through_the_application(client):
    assert client.get("/v1/cold").text == "cold True"
    assert client.get("/nothing").status_code == 404


def test_behind_a_prefix_the_application_routes(client):
    behind = TestClient(Api(routes=ROUTES), root_path="/api")
    assert behind.post("/api/v1/hot").text == "first True"
