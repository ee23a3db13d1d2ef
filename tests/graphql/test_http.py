"""GraphQL over HTTP: media types, status codes, and everything that is no GraphQL request."""

import json

import httpx
import pytest

from support.api_server import Api, Tenant, api_server, control_settings

GRAPHQL = "application/graphql-response+json"
JSON = "application/json"
MODELS = "{ models(first: 1) { nodes { slug } } }"


async def post(
    api: Api, content: bytes, *, content_type: str | None = JSON, accept: str = "*/*"
) -> httpx.Response:
    headers = {"accept": accept} | ({"content-type": content_type} if content_type else {})
    return await api.client.post("/graphql", content=content, headers=headers)


def code(response: httpx.Response) -> str:
    [error] = response.json()["errors"]
    assert error["extensions"]["requestId"] == response.headers["x-request-id"]
    return error["extensions"]["code"]


class TestMediaTypes:
    @pytest.mark.parametrize(
        ("accept", "media"),
        [
            ("*/*", JSON),
            (JSON, JSON),
            (GRAPHQL, GRAPHQL),
            (f"{GRAPHQL}, {JSON}", GRAPHQL),
            (f"{GRAPHQL};q=0.5, {JSON}", JSON),
            (f"{GRAPHQL}, application/graphql+json, {JSON}, text/event-stream, multipart/mixed", GRAPHQL),
        ],
    )
    async def test_accept_decides(self, api: Api, accept: str, media: str) -> None:
        response = await api.client.post("/graphql", json={"query": MODELS}, headers={"accept": accept})
        assert response.status_code == 200
        assert response.headers["content-type"] == f"{media}; charset=utf-8"
        assert "Accept" in response.headers["vary"]

    async def test_refused_document_is_400_in_the_new_type_and_200_in_the_old(self, api: Api) -> None:
        for query in ("{", "{ nothing }", "query ($n: Int!) { models(first: $n) { nodes { slug } } }"):
            body = json.dumps({"query": query}).encode()
            new = await post(api, body, accept=GRAPHQL)
            assert new.status_code == 400
            assert "data" not in new.json()
            assert (await post(api, body, accept=JSON)).status_code == 200

    async def test_missing_credentials_are_401_in_the_new_type(self, api: Api) -> None:
        response = await post(api, b'{"query": "{ viewer { user { id } } }"}', accept=GRAPHQL)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert code(response) == "UNAUTHENTICATED"

    async def test_failed_field_leaves_200_beside_data(self, api: Api, customer: Tenant) -> None:
        query = json.dumps({"query": '{ model(slug: "\\u0000") { slug } }'}).encode()
        response = await post(api, query, accept=GRAPHQL)
        assert response.status_code == 200
        assert code(response) == "BAD_USER_INPUT"


class TestGet:
    async def test_query_with_variables(self, api: Api) -> None:
        parameters = {
            "query": "query A($n: Int) { models(first: $n) { nodes { slug } } } query B { models { nodes { slug } } }",
            "variables": '{"n": 1}',
            "operationName": "A",
        }
        response = await api.client.get("/graphql", params=parameters)
        assert response.status_code == 200
        assert "errors" not in response.json()

    async def test_mutation_is_refused(self, api: Api) -> None:
        query = 'mutation { login(input: {email: "a@b.c", password: "x"}) { token } }'
        response = await api.client.get("/graphql", params={"query": query})
        assert response.status_code == 400
        assert code(response) == "BAD_REQUEST"

    @pytest.mark.parametrize(
        "parameters",
        [{}, {"query": ""}, {"query": MODELS, "variables": "["}, {"query": MODELS, "variables": "5"}],
    )
    async def test_bad_parameters_are_400(self, api: Api, parameters: dict[str, str]) -> None:
        assert (await api.client.get("/graphql", params=parameters)).status_code == 400

    async def test_other_methods_are_405(self, api: Api) -> None:
        for method in ("PUT", "DELETE", "PATCH"):
            response = await api.client.request(method, "/graphql")
            assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")


HOSTILE = {
    "bad utf-8": b'{"query":"\xff\xfe"}',
    "number": b"5",
    "string": b'"{ models }"',
    "null": b"null",
    "empty": b"",
    "query of 50,001 characters": b'{"query":"{ __typename }' + b" " * 50_000 + b'"}',
    "truncated": b'{"query":',
    "batch": b'[{"query":"{ __typename }"}]',
    "query is a number": b'{"query":1}',
    "query is a list": b'{"query":["{ __typename }"]}',
    "query is missing": b"{}",
    "variables are a string": b'{"query":"{ __typename }","variables":"x"}',
    "variables are a list": b'{"query":"{ __typename }","variables":[1]}',
    "operation name is a number": b'{"query":"{ __typename }","operationName":7}',
    "operation name is unknown": b'{"query":"{ __typename }","operationName":"Other"}',
    "extensions are a string": b'{"query":"{ __typename }","extensions":"x"}',
    "lone surrogate": b'{"query":"{ __typename }","operationName":"\\ud800"}',
    "not a number": b'{"query":"{ __typename }","variables":{"a":NaN}}',
    "infinite number": b'{"query":"{ __typename }","variables":{"a":1e400}}',
    "5,000 digits": b'{"query":"query($a:Int){models(first:$a){nodes{slug}}}","variables":{"a":'
    + b"9" * 5000
    + b"}}",
    "100,000 deep": b'{"query":"{ __typename }","variables":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "900 deep": b'{"query":"{ __typename }","variables":{"a":' + b"[" * 900 + b"]" * 900 + b"}}",
}


class TestHostileBodies:
    @pytest.mark.parametrize("name", HOSTILE)
    async def test_body_that_is_no_request_is_400(self, api: Api, name: str) -> None:
        response = await post(api, HOSTILE[name])
        assert response.status_code == 400, response.text
        assert code(response) == "BAD_REQUEST"
        assert len(response.content) < 1_000

    @pytest.mark.parametrize(
        "query",
        [
            "{ models(first: " + "9" * 5_000 + ") { nodes { slug } } }",
            '{ models(after: "\\u0000") { nodes { slug } } }',
            '{ model(slug: "\\u0000") { slug } }',
            '{ node(id: "\\u0000") { id } }',
            '{ node(id: "org_' + "f" * 31 + '\u0661") { id } }',
            "{ models(first: -1) { nodes { slug } } }",
            "{ models(first: 101) { nodes { slug } } }",
            "{ models(first: 1, last: 1) { nodes { slug } } }",
            "{ model(slug: [[[[[[[[1]]]]]]]]) { slug } }",
            "{ ...Nothing }",
            "{ models { nodes { ...Z } } }",
            "{ a }" + "\0",
            "{ " + "{" * 2_000,
            "query A { __typename } query A { __typename }",
            '{ models { nodes { slug @include(if: "x") } } }',
            "subscription { chatCompletion }",
            'mutation { login(input: {email: "\\u0000", password: "x"}) { token } }',
            'mutation { grantCredit(input: {organizationId: 5, amount: 1e999, idempotencyKey: ""}) { transfer { id } } }',
        ],
    )
    async def test_hostile_document_is_refused_with_a_code(self, api: Api, query: str) -> None:
        response = await post(api, json.dumps({"query": query}).encode())
        assert response.status_code in {200, 400}
        errors = response.json()["errors"]
        assert errors
        for error in errors:
            assert error["extensions"]["code"] not in {"INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE"}, error
            assert len(error["message"]) <= 500

    @pytest.mark.parametrize(
        "content_type",
        [
            None,
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonx",
        ],
    )
    async def test_body_of_another_type_is_refused(self, api: Api, content_type: str | None) -> None:
        """These are what a foreign page can send without a preflight."""
        response = await post(api, b'{"query":"{ __typename }"}', content_type=content_type)
        assert response.status_code == 415

    async def test_body_over_the_limit_is_413(self, api: Api) -> None:
        size = api.services.settings.body_bytes_max

        async def body():
            for _ in range(size // 65_536 + 1):
                yield b" " * 65_536

        response = await api.client.post("/graphql", content=body(), headers={"content-type": JSON})
        assert response.status_code == 413
        assert code(response) == "PAYLOAD_TOO_LARGE"


class TestProduction:
    """What an instance that is not in development tells about itself."""

    async def test_it_does_not_describe_itself(self, database_url: str) -> None:
        async with api_server(control_settings(database_url, development=False)) as api:
            refused = await api("{ __schema { types { name } } }")
            assert {error["extensions"]["code"] for error in refused.errors} == {"GRAPHQL_VALIDATION_FAILED"}
            assert refused.body["data"] is None
            misspelt = await api("{ viewr { user { id } } }")
            assert "did you mean" not in misspelt.errors[0]["message"].lower()
            assert (await api("{ __typename }")).data == {"__typename": "Query"}

    async def test_development_does(self, api: Api) -> None:
        assert (await api("{ __schema { queryType { name } } }")).data
        misspelt = await api("{ viewr { user { id } } }")
        assert "did you mean" in misspelt.errors[0]["message"].lower()
