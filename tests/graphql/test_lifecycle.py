"""What a provider opens, pauses, drains and ends is seen by the next request."""

from typing import Any

import pytest

from raymart_core.ids import Prefix, show
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.enrolment import mark_offline, mark_seen
from support.api_server import Api, Seller
from support.scripted_replica import ScriptedReplica

OFFER = "mutation ($id: ID!) { done: %sOffer(input: {offerId: $id}) { offer { state } userErrors { code } } }"
NODE = "mutation ($id: ID!) { done: %sNode(input: {nodeId: $id}) { node { state revokedAt } userErrors { code } } }"
OPEN = """mutation ($input: OpenOfferInput!) { openOffer(input: $input) {
  offer { id state asks { prompt { amount } } } userErrors { code field } } }"""
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


@pytest.mark.usefixtures("replica")
class TestNodes:
    async def test_a_drained_machine_gets_no_requests_even_when_its_link_comes_back(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        node_id = show(Prefix.NODE, seller.node_id)
        assert (await do(api, seller, NODE, "drain", node_id))["node"]["state"] == "DRAINING"
        assert await endpoints(api, seller) == 0
        for happens in (mark_offline, mark_seen):
            async with session_scope(api.services.sessions) as session:
                await happens(session, seller.node_id)
            await api.services.directory.refresh()
            assert await endpoints(api, seller) == 0
        assert (await do(api, seller, NODE, "resume", node_id))["node"]["state"] == "OFFLINE"
        assert await endpoints(api, seller) == 1

    async def test_a_retired_machine_is_gone_for_good(self, api: Api, seller: Seller) -> None:
        node_id = show(Prefix.NODE, seller.node_id)
        retired = (await do(api, seller, NODE, "retire", node_id))["node"]
        assert retired["state"] == "RETIRED"
        assert retired["revokedAt"]
        assert await endpoints(api, seller) == 0
        assert (await do(api, seller, NODE, "resume", node_id))["userErrors"] == [{"code": "CONFLICT"}]
