"""Keyset connections: no row twice, none left out, whatever the page and whatever arrives meanwhile."""

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix, show
from raymart_graphql.relay import (
    PAGE_DEFAULT,
    PAGE_MAX,
    Connection,
    make_cursor,
    make_page,
    page_of_sequence,
    read_cursor,
)
from support.api_server import Api, Seller, Tenant

KEYS = st.lists(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), unique=True, max_size=30
)


def page_of(keys: Sequence[str], **arguments: Any) -> Connection[str]:
    page = make_page(**({"first": None, "after": None, "last": None, "before": None} | arguments))
    return page_of_sequence(keys, page, name="things", key=lambda key: key)


class TestPageOfSequence:
    @given(KEYS, st.integers(1, 7), st.booleans())
    def test_walking_all_pages_gives_every_item_once_in_order(
        self, keys: list[str], size: int, backward: bool
    ) -> None:
        seen: list[str] = []
        arguments: dict[str, Any] = {"last": size} if backward else {"first": size}
        while True:
            found = page_of(keys, **arguments)
            assert len(found.nodes()) <= size
            seen = found.nodes() + seen if backward else seen + found.nodes()
            info = found.page_info
            if not (info.has_previous_page if backward else info.has_next_page):
                break
            arguments |= {"before": info.start_cursor} if backward else {"after": info.end_cursor}
        assert seen == sorted(keys)

    @given(KEYS.filter(bool), st.data())
    def test_a_range_between_two_cursors_is_that_slice(self, keys: list[str], data: st.DataObject) -> None:
        ordered = sorted(keys)
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(ordered) - 1)] * 2)))
        found = page_of(
            keys, after=make_cursor("things", ordered[start]), before=make_cursor("things", ordered[stop])
        )
        assert found.nodes() == ordered[start + 1 : stop][:PAGE_DEFAULT]

    @given(st.text())
    def test_arbitrary_text_is_no_cursor(self, text: str) -> None:
        with contextlib.suppress(InvalidRequest):
            key = read_cursor("things", text, field="after")
            assert make_cursor("things", key) == text.rstrip("=")

    def test_cursor_of_another_list_is_refused(self) -> None:
        with pytest.raises(InvalidRequest):
            page_of(["a"], after=make_cursor("others", "a"))

    @pytest.mark.parametrize(
        "arguments", [{"first": -1}, {"first": PAGE_MAX + 1}, {"last": PAGE_MAX + 1}, {"first": 1, "last": 1}]
    )
    def test_size_out_of_range_is_refused(self, arguments: dict[str, int]) -> None:
        with pytest.raises(InvalidRequest):
            page_of(["a"], **arguments)

    def test_empty_page_still_tells_whether_there_is_more(self) -> None:
        found = page_of(["a"], first=0)
        assert (found.nodes(), found.page_info.has_next_page, found.page_info.end_cursor) == ([], True, None)


USAGE = """
query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {
  organization(id: $id) {
    usageRecords(first: $first, after: $after, last: $last, before: $before) {
      edges { cursor node { id } }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
  }
}
"""


class TestPagesOfRows:
    async def page(self, api: Api, tenant: Tenant, **arguments: Any) -> tuple[list[str], dict[str, Any]]:
        answer = await api(USAGE, tenant.owner, id=tenant.id, **arguments)
        found = answer.data["organization"]["usageRecords"]
        assert [edge["cursor"] for edge in found["edges"]][:1] == [found["pageInfo"]["startCursor"]][
            : len(found["edges"])
        ]
        return [edge["node"]["id"] for edge in found["edges"]], found["pageInfo"]

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(size=st.integers(1, 8), backward=st.booleans())
    async def test_walk(self, walked: tuple[Api, Tenant, list[str]], size: int, backward: bool) -> None:
        api, tenant, newest_first = walked
        seen: list[str] = []
        arguments: dict[str, Any] = {"last": size} if backward else {"first": size}
        for _ in range(len(newest_first) + 1):
            ids, info = await self.page(api, tenant, **arguments)
            seen = ids + seen if backward else seen + ids
            if not info["hasPreviousPage" if backward else "hasNextPage"]:
                break
            arguments |= {"before": info["startCursor"]} if backward else {"after": info["endCursor"]}
        assert seen == newest_first

    @pytest_asyncio.fixture(loop_scope="session")
    async def walked(self, api: Api, customer: Tenant, seller: Seller) -> tuple[Api, Tenant, list[str]]:
        ids = await api.use(customer, seller, 13)
        await api.use(await api.tenant(), seller, 5)
        return api, customer, [show(Prefix.USAGE_RECORD, id_) for id_ in reversed(ids)]

    async def test_rows_that_arrive_meanwhile_do_not_shift_the_next_page(
        self, api: Api, customer: Tenant, seller: Seller
    ) -> None:
        old = await api.use(customer, seller, 6)
        first, info = await self.page(api, customer, first=3)
        await api.use(customer, seller, 4)
        second, _ = await self.page(api, customer, first=3, after=info["endCursor"])
        assert first + second == [show(Prefix.USAGE_RECORD, id_) for id_ in reversed(old)]

    async def test_between_two_cursors(self, walked: tuple[Api, Tenant, list[str]]) -> None:
        api, tenant, newest_first = walked
        answer = await api(USAGE, tenant.owner, id=tenant.id)
        cursors = [edge["cursor"] for edge in answer.data["organization"]["usageRecords"]["edges"]]
        ids, info = await self.page(api, tenant, after=cursors[2], before=cursors[7], first=3)
        assert ids == newest_first[3:6]
        assert info["hasNextPage"]
        ids, info = await self.page(api, tenant, after=cursors[2], before=cursors[7], last=3)
        assert ids == newest_first[4:7]
        assert info["hasPreviousPage"]

    @pytest.mark.parametrize(
        "cursor",
        [
            "x",
            "",
            make_cursor("usage", "5"),
            make_cursor("models", "a"),
            make_cursor("usage", "\0"),
            "é" * 50,
        ],
    )
    async def test_wrong_cursor_is_the_clients_mistake(self, api: Api, customer: Tenant, cursor: str) -> None:
        answer = await api(USAGE, customer.owner, id=customer.id, after=cursor)
        assert answer.code == "BAD_USER_INPUT"

    async def test_models_page_by_slug(self, api: Api) -> None:
        for _ in range(3):
            await api.seller()
        query = "query ($after: String) { models(first: 2, after: $after) { nodes { slug } pageInfo { hasNextPage endCursor } } }"
        slugs: list[str] = []
        after = None
        while True:
            found = (await api(query, after=after)).data["models"]
            slugs += [node["slug"] for node in found["nodes"]]
            if not found["pageInfo"]["hasNextPage"]:
                break
            after = found["pageInfo"]["endCursor"]
        assert len(slugs) == len(set(slugs)) >= 3
        whole = (await api("{ models(first: 100) { nodes { slug } } }")).data["models"]["nodes"]
        # There may be more than one page of those: every test that sells makes a model.
        assert slugs[:100] == [node["slug"] for node in whole]

    async def test_ledger_accounts_page_by_number(self, api: Api, customer: Tenant) -> None:
        await api.credit(customer)
        admin = await api.admin()
        query = "query ($b: String) { ledgerAccounts(last: 2, before: $b) { nodes { id } pageInfo { startCursor hasPreviousPage } } }"
        first = (await api(query, admin)).data["ledgerAccounts"]
        assert len(first["nodes"]) == 2
        for cursor in (make_cursor("ledger_accounts", "9" * 30), make_cursor("ledger_accounts", "x")):
            answer = await api(query, admin, b=cursor)
            assert answer.errors == [] or answer.code == "BAD_USER_INPUT"
