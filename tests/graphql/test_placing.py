"""Where offers run, as providers choose it, and why not, as they and customers see it."""

from datetime import UTC, datetime, timedelta

import pytest

from raymart_core.ids import Prefix, show
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.planning.demand import Demand
from raymart_marketplace.supply.planning.standing import note_standing
from support.api_server import Api, Seller
from support.market import make_node, make_pool, make_provider

SET = """mutation ($input: SetOfferPlacementInput!) { setOfferPlacement(input: $input) {
  offer { placement { warmth replicasMax nodesMax gpusMax idleSeconds nodeIds hours { days startsMinute endsMinute } }
    rejections { nodes { nodeId reason detail } } }
  userErrors { code field message } } }"""
STANDING = """query ($slug: String!) { model(slug: $slug) { placement { standing offers placements sleeping
  misfits { reason machines } } } }"""
DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
DAWN = {"days": ["MONDAY", "SUNDAY"], "startsMinute": 60, "endsMinute": 120}


async def choose(api: Api, seller: Seller, **choices: object) -> dict:
    asked = {"offerId": show(Prefix.OFFER, seller.offer_id), **choices}
    found: dict = (await api(SET, seller.tenant.owner, input=asked)).data["setOfferPlacement"]
    return found


@pytest.mark.usefixtures("replica")
class TestSetOfferPlacement:
    async def test_what_is_chosen_is_shown(self, api: Api, seller: Seller) -> None:
        chosen = {
            "warmth": "ON_DEMAND",
            "replicasMax": 3,
            "nodesMax": 2,
            "gpusMax": 1,
            "idleSeconds": 30,
            "nodeIds": [],
            "hours": [DAWN],
        }
        done = await choose(api, seller, **chosen)
        assert done["userErrors"] == []
        assert done["offer"]["placement"] == chosen
        again = await choose(api, seller)
        assert again["offer"]["placement"]["warmth"] == "WARM"

    @pytest.mark.parametrize(
        ("choices", "named"),
        [
            ({"replicasMax": 17}, "replicasMax"),
            ({"idleSeconds": 4}, "idleSeconds"),
            ({"nodesMax": 0}, "nodesMax"),
            ({"gpusMax": -1}, "gpusMax"),
            ({"hours": [DAWN, DAWN]}, "hours"),
            ({"hours": [{**DAWN, "startsMinute": 1_440}]}, "hours"),
            ({"hours": [{**DAWN, "days": []}]}, "hours"),
        ],
    )
    async def test_what_is_out_of_range_is_refused(self, api: Api, seller: Seller, choices, named) -> None:
        done = await choose(api, seller, **choices)
        assert done["offer"] is None
        assert [(error["code"], error["field"][-1]) for error in done["userErrors"]] == [("INVALID", named)]

    async def test_a_machine_of_another_provider_is_refused(self, api: Api, seller: Seller) -> None:
        async with session_scope(api.services.sessions) as session:
            other = await make_provider(session)
            node = await make_node(session, pool=await make_pool(session, owner=other), provider=other)
        done = await choose(api, seller, nodeIds=[show(Prefix.NODE, node.id)])
        assert [error["message"] for error in done["userErrors"]] == [
            "node_ids names a machine that is not the provider's"
        ]

    async def test_it_is_said_why_no_machine_takes_it(self, api: Api, seller: Seller) -> None:
        # Hours that ended yesterday at the latest, whatever the hour is now.
        day = DAYS[(datetime.now(UTC) - timedelta(days=2)).weekday()]
        done = await choose(api, seller, hours=[{**DAWN, "days": [day]}])
        assert {each["nodeId"]: each["reason"] for each in done["offer"]["rejections"]["nodes"]} == {
            show(Prefix.NODE, seller.node_id): "OUTSIDE_HOURS"
        }
        await note_standing(api.services.sessions, Demand())
        found = (await api(STANDING, slug=seller.model_slug)).data["model"]["placement"]
        assert found == {
            "standing": "NO_NODE_MATCHES",
            "offers": 1,
            "placements": 0,
            "sleeping": 0,
            "misfits": [{"reason": "OUTSIDE_HOURS", "machines": 1}],
        }
