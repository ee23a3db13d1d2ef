"""Providers: machines, join tokens, asks, earnings."""

from decimal import Decimal

import pytest
import pytest_asyncio
from sqlalchemy import select

from raymart_core.ids import Prefix, new_id, show
from raymart_core.wire.link import Report
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.enrolment import hash_token
from raymart_marketplace.supply.models import JoinToken, NodeRole, PoolKind
from raymart_marketplace.supply.pool_control import keep_report, take_control
from raymart_marketplace.supply.service import create_pool
from support.api_server import Api, Person, Seller, Tenant
from support.scripted_replica import ScriptedReplica

TOKEN = """
mutation ($input: CreateJoinTokenInput!) {
  createJoinToken(input: $input) { token expiresAt pool { slug kind region } userErrors { code field message } }
}
"""
ASKS = """
mutation ($input: SetOfferAsksInput!) {
  setOfferAsks(input: $input) {
    offer { id state asks { prompt { amount } completion { amount } } } userErrors { code field message }
  }
}
"""


class TestProvider:
    async def test_members_see_machines_with_what_they_serve(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        query = """
        query ($id: ID!) { provider(id: $id) {
          slug state
          nodes(first: 10) { nodes {
            name role state pool { slug }
            hardware { hostname cpuModel cpuCount memoryBytes gpus { model } }
            liveEndpoints { nodes { modelSlug capacity } }
            placements { nodes { state desired } }
          } }
          pools(last: 20) { nodes { slug kind } }
          offers { nodes { state revision { model { slug } } } }
          earnings { payable { amount } }
        } }
        """
        found = (await api(query, seller.tenant.owner, id=seller.id)).data["provider"]
        [node] = found["nodes"]["nodes"]
        assert node["hardware"] == {
            "hostname": "box",
            "cpuModel": "cpu",
            "cpuCount": 2,
            "memoryBytes": str(2**40),
            "gpus": [],
        }
        assert node["liveEndpoints"]["nodes"] == [{"modelSlug": seller.model_slug, "capacity": 4}]
        assert found["offers"]["nodes"] == [
            {"state": "OPEN", "revision": {"model": {"slug": seller.model_slug}}}
        ]
        assert found["earnings"] == {"payable": {"amount": "0.000000000"}}
        own = [pool for pool in found["pools"]["nodes"] if pool["kind"] == "PROVIDER"]
        assert own == [{"slug": node["pool"]["slug"], "kind": "PROVIDER"}]

    async def test_found_through_the_viewers_organization(self, api: Api, seller: Seller) -> None:
        query = "{ viewer { organizations { nodes { kind provider { slug } } } } }"
        viewer = (await api(query, seller.tenant.owner)).data["viewer"]
        assert viewer["organizations"]["nodes"] == [
            {"kind": "PROVIDER", "provider": {"slug": seller.provider_slug}}
        ]


POOLS = "query ($id: ID!) { node(id: $id) { ... on Pool { slug drift { kind subject node reason } } } }"


class TestPools:
    @pytest_asyncio.fixture(loop_scope="session")
    async def administrator(self, api: Api) -> Person:
        return await api.admin()

    async def test_members_see_where_their_own_pool_is_not_as_it_should_be(
        self, api: Api, seller: Seller
    ) -> None:
        pool_id = show(Prefix.POOL, seller.pool_id)
        found = (await api(POOLS, seller.tenant.owner, id=pool_id)).data["node"]
        [drift] = found["drift"]
        assert (drift["kind"], drift["subject"], drift["node"]) == ("NO_CONTROLLER", "controller", None)

    async def test_a_report_is_seen_by_the_pools_own_members(
        self, api: Api, seller: Seller, sessions
    ) -> None:
        async with session_scope(sessions) as session:
            link_id = new_id()
            await take_control(session, pool_id=seller.pool_id, node_id=seller.node_id, link_id=link_id)
            report = Report(generation=1, observed=(), ray_nodes=("stray",))
            await keep_report(session, pool_id=seller.pool_id, link_id=link_id, report=report)
        found = (await api(POOLS, seller.tenant.owner, id=show(Prefix.POOL, seller.pool_id))).data["node"]
        assert ("RAY_NODE_WITHOUT_AGENT", "stray") in [
            (drift["kind"], drift["subject"]) for drift in found["drift"]
        ]

    async def test_the_drift_of_a_house_pool_names_several_providers_machines_and_is_the_platforms(
        self, api: Api, seller: Seller, sessions, administrator
    ) -> None:
        async with session_scope(sessions) as session:
            house = await create_pool(
                session, slug=f"house-{new_id().hex[-8:]}", kind=PoolKind.HOUSE, region="eu"
            )
        pool_id = show(Prefix.POOL, house.id)
        refused = await api(POOLS, seller.tenant.owner, id=pool_id)
        assert refused.body["errors"][0]["extensions"]["code"] == "FORBIDDEN"
        [drift] = (await api(POOLS, administrator, id=pool_id)).data["node"]["drift"]
        assert drift["kind"] == "NO_CONTROLLER"

    async def test_all_pools_are_listed_for_the_platforms_people_only(
        self, api: Api, seller: Seller, administrator
    ) -> None:
        query = "{ pools(last: 100) { nodes { slug kind region drift { kind } } } }"
        listed = (await api(query, administrator)).data["pools"]["nodes"]
        assert any(pool["kind"] == "PROVIDER" for pool in listed)
        refused = await api(query, seller.tenant.owner)
        assert refused.body["errors"][0]["extensions"]["code"] == "FORBIDDEN"


class TestCreateJoinToken:
    async def test_token_is_shown_once_and_only_its_hash_kept(self, api: Api, seller: Seller) -> None:
        given = {"providerId": seller.id, "poolId": show(Prefix.POOL, seller.pool_id), "ttlSeconds": 600}
        data = (await api(TOKEN, seller.tenant.owner, input=given)).data["createJoinToken"]
        assert data["userErrors"] == []
        assert data["token"].startswith("rmj_")
        assert data["pool"]["kind"] == "PROVIDER"
        async with session_scope(api.services.sessions) as session:
            [row] = await session.scalars(
                select(JoinToken).where(JoinToken.provider_id == seller.provider_id)
            )
        assert row.token_hash == hash_token(data["token"])
        assert row.created_by == seller.tenant.owner.user_id
        assert (row.expires_at - row.created_at).total_seconds() == pytest.approx(600, abs=5)

    async def test_house_pool_may_be_joined_but_not_controlled(self, api: Api, seller: Seller) -> None:
        async with session_scope(api.services.sessions) as session:
            house = await create_pool(
                session, slug=f"house-{new_id().hex}", kind=PoolKind.HOUSE, region="local"
            )
        given = {"providerId": seller.id, "poolId": show(Prefix.POOL, house.id)}
        data = (await api(TOKEN, seller.tenant.owner, input=given)).data["createJoinToken"]
        assert data["token"]
        refused = (await api(TOKEN, seller.tenant.owner, input=given | {"role": "CONTROLLER"})).data
        assert [error["code"] for error in refused["createJoinToken"]["userErrors"]] == ["NOT_FOUND"]

    async def test_own_pool_may_be_controlled(self, api: Api, seller: Seller) -> None:
        given = {"providerId": seller.id, "poolId": show(Prefix.POOL, seller.pool_id), "role": "CONTROLLER"}
        assert (await api(TOKEN, seller.tenant.owner, input=given)).data["createJoinToken"]["token"]
        async with session_scope(api.services.sessions) as session:
            [row] = await session.scalars(
                select(JoinToken).where(JoinToken.provider_id == seller.provider_id)
            )
        assert row.role is NodeRole.CONTROLLER

    async def test_another_providers_pool_is_not_found(self, api: Api, seller: Seller) -> None:
        rival = await api.seller()
        given = {"providerId": seller.id, "poolId": show(Prefix.POOL, rival.pool_id)}
        data = (await api(TOKEN, seller.tenant.owner, input=given)).data["createJoinToken"]
        assert [error["field"] for error in data["userErrors"]] == [["input", "poolId"]]
        assert data["token"] is None

    @pytest.mark.parametrize("ttl", [0, 59, 3601, -1])
    async def test_life_out_of_range_is_a_user_error(self, api: Api, seller: Seller, ttl: int) -> None:
        given = {"providerId": seller.id, "poolId": show(Prefix.POOL, seller.pool_id), "ttlSeconds": ttl}
        [error] = (await api(TOKEN, seller.tenant.owner, input=given)).data["createJoinToken"]["userErrors"]
        assert error["field"] == ["input", "ttlSeconds"]


class TestSetOfferAsks:
    async def test_next_request_pays_the_new_price(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        given = {"offerId": show(Prefix.OFFER, seller.offer_id), "prompt": "0", "completion": "0.000001"}
        data = (await api(ASKS, seller.tenant.owner, input=given)).data["setOfferAsks"]
        assert data["offer"]["asks"] == {
            "prompt": {"amount": "0.000000000"},
            "completion": {"amount": "0.000001000"},
        }
        await api.credit(customer)
        query = """mutation ($input: CreateChatCompletionInput!) {
          createChatCompletion(input: $input) { completion { cost { amount } } userErrors { code } } }"""
        chat = {
            "model": seller.model_slug,
            "messages": [{"role": "USER", "content": "hi"}],
            "maxTokens": 2,
        }
        data = (await api(query, customer.owner, input=chat)).data["createChatCompletion"]
        assert Decimal(data["completion"]["cost"]["amount"]) == 2 * Decimal("0.000001")

    @pytest.mark.parametrize(
        ("prompt", "completion", "field"),
        [("-1", "0", "prompt"), ("0", "0.0000000001", "completion"), ("1e-10", "0", "prompt")],
    )
    async def test_unfit_ask_is_a_user_error(
        self, api: Api, seller: Seller, prompt: str, completion: str, field: str
    ) -> None:
        given = {"offerId": show(Prefix.OFFER, seller.offer_id), "prompt": prompt, "completion": completion}
        data = (await api(ASKS, seller.tenant.owner, input=given)).data["setOfferAsks"]
        assert [error["field"] for error in data["userErrors"]] == [["input", field]]
        assert data["offer"] is None

    async def test_huge_ask_is_a_user_error(self, api: Api, seller: Seller) -> None:
        given = {"offerId": show(Prefix.OFFER, seller.offer_id), "prompt": "9" * 30, "completion": "0"}
        data = (await api(ASKS, seller.tenant.owner, input=given)).data["setOfferAsks"]
        assert [error["code"] for error in data["userErrors"]] == ["INVALID"]
