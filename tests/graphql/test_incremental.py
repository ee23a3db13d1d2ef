"""`@defer` and `@stream`: results in parts, for clients that read parts."""

import json
import re
from typing import Any

import pytest
from graphql import parse, print_ast
from structlog.testing import capture_logs

from raymart_graphql.documents import whole
from raymart_graphql.limits import weigh
from raymart_graphql.schema import build_schema
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import Node
from support.api_server import Api, Person, Seller, Tenant
from support.event_stream import followed

APOLLO = "multipart/mixed;deferSpec=20220824,application/graphql-response+json,application/json;q=0.9"
DEFERRED = """
{
  viewer {
    user { email }
    ... @defer(label: "later") { organizations(first: 5) { nodes { id } } }
  }
}
"""
STREAMED = "{ viewer { organizations(first: 5) { nodes @stream(initialCount: 0) { id } } } }"
FAULT = """
query ($id: ID!) { provider(id: $id) { slug ... @defer { nodes(first: 5) { nodes { name hardware { cpuCount } } } } } }
"""


async def parts(api: Api, query: str, as_: Person, *, accept: str = APOLLO, **variables: Any) -> list[dict]:
    """The parts of a multipart answer."""
    headers = {"accept": accept, "authorization": f"Bearer {as_.token}"}
    response = await api.client.post(
        "/graphql", json={"query": query, "variables": variables}, headers=headers
    )
    assert response.headers["content-type"] == 'multipart/mixed; boundary="-"'
    assert response.headers["x-ratelimit-cost"]
    preamble, *bodies, end = re.split(r"\r?\n?---", response.text)
    assert (preamble, end) == ("", "--\r\n")
    found = []
    for body in bodies:
        head, _, text = body.partition("\r\n\r\n")
        assert head.strip() == "content-type: application/json; charset=utf-8"
        found.append(json.loads(text))
    return found


class TestDefer:
    async def test_part_comes_after_the_rest(self, api: Api, customer: Tenant) -> None:
        first, second = await parts(api, DEFERRED, customer.owner)
        assert first["data"] == {"viewer": {"user": {"email": customer.owner.email}}}
        assert first["pending"] == [{"id": "0", "path": ["viewer"], "label": "later"}]
        assert first["hasNext"] is True
        [part] = second["incremental"]
        assert part["data"] == {"organizations": {"nodes": [{"id": customer.id}]}}
        assert (part["id"], part["path"], part["label"]) == ("0", ["viewer"], "later")
        assert second["completed"] == [{"id": "0"}]
        assert second["hasNext"] is False

    async def test_events_carry_parts_as_well(self, api: Api, customer: Tenant) -> None:
        async with followed(api, DEFERRED, customer.owner) as events:
            first, second = await events.results()
        assert first["hasNext"] is True
        assert second["incremental"][0]["data"] == {"organizations": {"nodes": [{"id": customer.id}]}}

    @pytest.mark.parametrize("query", [DEFERRED, STREAMED])
    async def test_client_that_reads_one_document_gets_one(
        self, api: Api, customer: Tenant, query: str
    ) -> None:
        data = (await api(query, customer.owner)).data
        assert data["viewer"]["organizations"] == {"nodes": [{"id": customer.id}]}

    async def test_answer_without_parts_is_one_document(self, api: Api, customer: Tenant) -> None:
        answer = await api("{ viewer { user { email } } }", customer.owner, headers={"accept": APOLLO})
        assert answer.data["viewer"]["user"]["email"] == customer.owner.email
        assert answer.response.headers["content-type"].startswith("application/graphql-response+json")

    async def test_fault_of_ours_is_masked_in_a_later_part(self, api: Api, seller: Seller) -> None:
        async with session_scope(api.services.sessions) as session:
            node = await session.get_one(Node, seller.node_id)
            node.hardware = {"cpu_count": "canary-7f3a"}
        with capture_logs() as logs:
            first, *rest = await parts(api, FAULT, seller.tenant.owner, id=seller.id)
        assert first["data"] == {"provider": {"slug": seller.provider_slug}}
        text = json.dumps(rest)
        assert "canary" not in text
        codes = re.findall(r'"code": "(\w+)", "requestId": "req_', text)
        assert codes == ["INTERNAL_SERVER_ERROR"]
        assert [entry for entry in logs if entry["event"] == "operation.failed"]

    async def test_another_tenants_part_is_refused(self, api: Api, seller: Seller, stranger: Tenant) -> None:
        first, *rest = await parts(api, FAULT, stranger.owner, id=seller.id)
        assert first["data"] == {"provider": {"slug": seller.provider_slug}}
        assert '"code": "FORBIDDEN"' in json.dumps(rest)
        assert "cpuCount" not in json.dumps(rest)


class TestStream:
    async def test_items_come_one_by_one(self, api: Api, customer: Tenant) -> None:
        first, *rest = await parts(api, STREAMED, customer.owner)
        assert first["data"] == {"viewer": {"organizations": {"nodes": []}}}
        items = [item for found in rest for part in found.get("incremental", ()) for item in part["items"]]
        assert items == [{"id": customer.id}]
        assert rest[-1]["hasNext"] is False


class TestLimits:
    def test_parts_hide_no_cost_and_weigh_themselves(self) -> None:
        schema = build_schema()._schema
        inner = "offers(first: 100) { nodes { id } }"
        plain = weigh(schema, parse(f"{{ models(first: 40) {{ nodes {{ {inner} }} }} }}"), {})[None]
        query = f"{{ models(first: 40) {{ nodes {{ ... @defer {{ {inner} }} }} }} }}"
        assert weigh(schema, parse(query), {})[None].cost == plain.cost + 40


class TestWhole:
    def test_only_what_asks_for_parts_is_left_out(self) -> None:
        document = parse('{ a @skip(if: false) @stream ... @defer(label: "b") @include(if: true) { b } }')
        assert print_ast(whole(document)).split() == (
            ["{", "a", "@skip(if:", "false)", "...", "@include(if:", "true)", "{", "b", "}", "}"]
        )
        assert "@stream" in print_ast(document)
