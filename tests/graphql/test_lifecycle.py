"""What a provider opens, pauses, drains and ends is seen by the next request."""

from typing import Any

import pytest

from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.catalog.service import ensure_model
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.presence import link_up, links_lost
from support.api_server import Api, Seller
from support.market import make_revision, unique
from support.scripted_replica import ScriptedReplica

OFFER = "mutation ($id: ID!) { done: %sOffer(input: {offerId: $id}) { offer { state } userErrors { code } } }"
NODE = "mutation ($id: ID!) { done: %sNode(input: {nodeId: $id}) { node { state revokedAt } userErrors { code } } }"
OPEN = """mutation ($input: OpenOfferInput!) { openOffer(input: $input) {
  offer { id state asks { prompt { amount } } unitAsks { unit price { amount } }
    currentPrice { sellable prices { unit price { amount } } } } userErrors { code field } } }"""
PAINTER = """query ($slug: String!) { model(slug: $slug) { modality lowestPrices { prompt { amount } }
  lowestUnitPrices { unit price { amount } } } }"""
LIVE = "query ($slug: String!) { model(slug: $slug) { liveEndpoints { nodes { id } } } }"


async def do(api: Api, seller: Seller, query: str, verb: str, item_id: str) -> dict[str, Any]:
    done: dict[str, Any] = (await api(query % verb, seller.tenant.owner, id=item_id)).data["done"]
    return done


async def endpoints(api: Api, seller: Seller) -> int:
    return len((await api(LIVE, slug=seller.model_slug)).data["model"]["liveEndpoints"]["nodes"])


@pytest.mark.usefixtures("replica")
class TestOffers:
    async def test_a_paused_offer_gets_no_requests_until_it_is_resumed(
        self, api: Api, seller: Seller
    ) -> None:
        offer_id = show(Prefix.OFFER, seller.offer_id)
        assert await endpoints(api, seller) == 1
        for verb, state, live in (("pause", "PAUSED", 0), ("pause", "PAUSED", 0), ("resume", "OPEN", 1)):
            assert (await do(api, seller, OFFER, verb, offer_id))["offer"] == {"state": state}
            assert await endpoints(api, seller) == live

    async def test_a_closed_offer_stays_closed_and_makes_room_for_another(
        self, api: Api, seller: Seller
    ) -> None:
        offer_id = show(Prefix.OFFER, seller.offer_id)
        asked = {"providerId": seller.id, "revisionId": show(Prefix.REVISION, seller.revision_id)}
        prices = {"prompt": "0.000000100", "completion": "0.000000200"}
        taken = (await api(OPEN, seller.tenant.owner, input=asked | prices)).data["openOffer"]
        assert taken["userErrors"] == [{"code": "CONFLICT", "field": None}]
        assert (await do(api, seller, OFFER, "close", offer_id))["offer"] == {"state": "CLOSED"}
        assert await endpoints(api, seller) == 0
        assert (await do(api, seller, OFFER, "resume", offer_id))["userErrors"] == [{"code": "CONFLICT"}]
        opened = (await api(OPEN, seller.tenant.owner, input=asked | prices)).data["openOffer"]
        assert opened["offer"]["asks"]["prompt"]["amount"] == "0.000000100"
        assert await endpoints(api, seller) == 1

    async def test_an_offer_of_an_image_model_opens_at_its_price_of_megapixel_steps(
        self, api: Api, seller: Seller
    ) -> None:
        async with session_scope(api.services.sessions) as session:
            model = await ensure_model(
                session, slug=f"test/{unique('painter')}", name="A painter", description="",
                modality=Modality.IMAGE, licence="Apache-2.0",
            )  # fmt: skip
            revision = await make_revision(session, model=model)
        asked = {"providerId": seller.id, "revisionId": show(Prefix.REVISION, revision.id)}
        step = {"unit": "IMAGE_MEGAPIXEL_STEP", "price": "0.000002000"}
        twice = {"asks": [{"unit": "TOKEN_PROMPT", "price": "0.000000001"}], "prompt": "0.000000002"}
        refused = (await api(OPEN, seller.tenant.owner, input=asked | twice)).data["openOffer"]
        assert refused["userErrors"] == [{"code": "INVALID", "field": ["input", "prompt"]}]
        opened = (await api(OPEN, seller.tenant.owner, input=asked | {"asks": [step]})).data["openOffer"]
        price = {"unit": "IMAGE_MEGAPIXEL_STEP", "price": {"amount": "0.000002000"}}
        assert opened["offer"]["unitAsks"] == [price]
        assert opened["offer"]["currentPrice"] == {"sellable": True, "prices": [price]}
        found = (await api(PAINTER, slug=model.slug)).data["model"]
        assert found == {"modality": "IMAGE", "lowestPrices": None, "lowestUnitPrices": [price]}


@pytest.mark.usefixtures("replica")
class TestNodes:
    async def test_a_drained_machine_gets_no_requests_even_when_its_link_comes_back(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        node_id = show(Prefix.NODE, seller.node_id)
        assert (await do(api, seller, NODE, "drain", node_id))["node"]["state"] == "DRAINING"
        assert await endpoints(api, seller) == 0
        link = new_id()
        for happens in (
            lambda session: link_up(session, seller.node_id, link),
            lambda session: links_lost(session, {seller.node_id: link}),
            lambda session: link_up(session, seller.node_id, new_id()),
        ):
            async with session_scope(api.services.sessions) as session:
                await happens(session)
            await api.services.directory.refresh()
            assert await endpoints(api, seller) == 0
        assert (await do(api, seller, NODE, "resume", node_id))["node"]["state"] == "READY"
        assert await endpoints(api, seller) == 1

    async def test_a_retired_machine_is_gone_for_good(self, api: Api, seller: Seller) -> None:
        node_id = show(Prefix.NODE, seller.node_id)
        retired = (await do(api, seller, NODE, "retire", node_id))["node"]
        assert retired["state"] == "RETIRED"
        assert retired["revokedAt"]
        assert await endpoints(api, seller) == 0
        assert (await do(api, seller, NODE, "resume", node_id))["userErrors"] == [{"code": "CONFLICT"}]
