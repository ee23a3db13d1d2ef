"""The document describes what is served, and its page loads nothing from elsewhere."""

import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from raymart_graphql.app import create_app
from raymart_graphql.rest.openapi import document
from raymart_marketplace.gateway.images.sdapi.lists_route import FIXED
from support.api_server import Api, control_settings

SDAPI_PATHS = (
    "txt2img",
    "img2img",
    "options",
    "sd-models",
    "loras",
    "sd-vae",
    "progress",
    "interrupt",
    "skip",
    *FIXED,
)
UNDESCRIBED = {
    "/graphql": "has a schema of its own",
    "/graphql/assets/{name}": "is a file of its page",
    "/webhooks/stripe": "is Stripe's alone",
    "/auth/oidc/{provider}/start": "is for browsers",
    "/auth/oidc/{provider}/callback": "is for browsers",
    "/objects/{key:path}": "is a URL that comes signed and whole",
    "/v1/{rest:path}": "is a refusal",
    "/sdapi/v1/{rest:path}": "is a refusal",
    **{f"/sdapi/v1/{path}": "is AUTOMATIC1111's, whose own document describes it" for path in SDAPI_PATHS},
    "/openapi.json": "is the document",
    "/docs": "is its page",
    "/docs/{asset}": "is its page",
}


@pytest.fixture(scope="module")
def app():
    return create_app(control_settings("postgresql://nobody:nothing@127.0.0.1/nowhere"))


class TestDocument:
    def test_it_is_valid(self, app):
        OpenAPIV31SpecValidator(document(app)).validate()

    def test_every_route_is_described_or_says_why_not(self, app):
        served = {
            route.path.replace("{slug:path}", "{model}") for route in app.routes if isinstance(route, Route)
        }
        assert served - set(document(app)["paths"]) == set(UNDESCRIBED)
        assert set(document(app)["paths"]) <= served

    def test_operations_have_names_that_a_client_can_be_made_of(self, app):
        names = [
            operation["operationId"]
            for operations in document(app)["paths"].values()
            for operation in operations.values()
        ]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-z]+[A-Za-z]+", name) for name in names), names

    def test_every_failure_has_a_coded_body(self, app):
        for path, operations in document(app)["paths"].items():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    if status >= "400" and path != "/ready":
                        schema = response["content"]["application/json"]["schema"]
                        assert schema["$ref"].endswith(("ErrorReply", "ErrorDocument")), (path, status)


class TestPage:
    async def test_it_is_served_with_its_files_and_nothing_foreign(self, api: Api):
        page = await api.client.get("/docs")
        assert page.status_code == 200
        assert "http" not in page.text
        assert "default-src 'self'" in page.headers["content-security-policy"]
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(linked) == 3
        for path in linked:
            assert (await api.client.get(path)).status_code == 200
        assert (await api.client.get("/docs/other.js")).status_code == 404
        assert (await api.client.get("/openapi.json")).json()["openapi"].startswith("3.1")
