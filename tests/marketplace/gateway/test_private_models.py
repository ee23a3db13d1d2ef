"""A private model is there for its organization and those it is shared with; for others there is no such model."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from raymart_marketplace.catalog.registry_models import Access
from raymart_marketplace.catalog.service import model_by_slug
from raymart_marketplace.catalog.sharing import end_share, share_model
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.gateway.model_lookup import CatalogModels
from support.gateway_market import GatewayMarket, gateway_market
from support.market import make_customer


@pytest.fixture
async def owner(sessions: Sessions) -> UUID:
    async with session_scope(sessions) as session:
        return (await make_customer(session)).organization_id


@pytest.fixture
async def private(sessions: Sessions, pool, owner: UUID) -> AsyncIterator[GatewayMarket]:
    """A gateway whose model is another organization's, and not shared with its customer."""
    async with gateway_market(sessions, pool, model_owner=owner) as market:
        yield market


async def share(market: GatewayMarket, *, ends: bool = False) -> None:
    organization_id = market.books.organization_id
    async with session_scope(market.sessions) as session:
        model = await model_by_slug(session, market.slug)
        await share_model(
            session, model=model, organization_id=organization_id, access=Access.USE, actor_id=None
        )
        if ends:
            await end_share(session, model_id=model.id, organization_id=organization_id)


class TestStranger:
    @pytest.mark.parametrize("is_served", [False, True])
    async def test_request_is_answered_as_for_no_such_model(
        self, private: GatewayMarket, owner: UUID, is_served: bool
    ):
        if is_served:
            await private.add_endpoint(audience=frozenset({owner}))
        answer = await private.chat()
        unknown = await private.chat(model=f"{private.slug}x")
        assert answer.status_code == unknown.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
        assert private.slug not in unknown.json()["error"]["message"].replace(f"{private.slug}x", "")

    async def test_neither_listed_nor_shown(self, private: GatewayMarket):
        listed = (await private.client.get("/v1/models")).json()["data"]
        assert private.slug not in {each["id"] for each in listed}
        assert (await private.client.get(f"/v1/models/{private.slug}")).status_code == 404
        assert (await private.client.get(f"/v1/models/{private.slug}/endpoints")).status_code == 404

    async def test_ended_share_is_none(self, private: GatewayMarket):
        await share(private, ends=True)
        assert (await private.client.get(f"/v1/models/{private.slug}")).status_code == 404


class TestShared:
    async def test_request_is_served_and_the_model_listed(self, private: GatewayMarket, owner: UUID):
        await share(private)
        await private.books.fund(1_000_000)
        await private.add_endpoint(audience=frozenset({owner, private.books.organization_id}))
        assert (await private.chat()).status_code == 200
        listed = (await private.client.get("/v1/models")).json()["data"]
        assert private.slug in {each["id"] for each in listed}

    async def test_owner_is_of_the_audience(self, private: GatewayMarket, owner: UUID):
        await share(private)
        listed = await CatalogModels(private.sessions).listed()
        assert listed[private.slug].audience == {owner, private.books.organization_id}
