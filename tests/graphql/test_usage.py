"""Usage records and what hangs on them, in a number of statements that does not grow with the page."""

from decimal import Decimal
from typing import Any

from sqlalchemy import event

from support.api_server import ASK_COMPLETION, ASK_PROMPT, Api, Seller, Tenant
from support.statements import statements_of

PAGE = """
query ($id: ID!, $first: Int) {
  organization(id: $id) {
    usageRecords(first: $first) {
      nodes {
        id createdAt postedAt exact
        usage { tokensPrompt tokensCompletion tokensTotal }
        prices { prompt { amount } completionPerMillion { amount } }
        amount { amount currency } providerAmount { amount } feeAmount { amount }
        request { id surface state attempts { position outcome provider { slug } } usageRecord { id } }
        model { slug name }
        revision { digest }
        provider { slug name }
        project { slug organization { slug } }
        apiKey { prefix }
      }
    }
  }
}
"""
TREE = """
{ viewer { organizations(first: 10) { nodes {
  viewerRole balance { available { amount } }
  projects(first: 10) { nodes { slug organization { slug } } }
  apiKeys(first: 10) { nodes { name project { slug } } }
  provider { offers(first: 10) { nodes { revision { model { slug lowestPrices { prompt { amount } } } } } } }
} } } }
"""


class TestUsageRecords:
    async def test_amounts_add_up(self, api: Api, customer: Tenant, seller: Seller) -> None:
        await api.use(customer, seller, 2, tokens=7)
        found = (await api(PAGE, customer.owner, id=customer.id)).data["organization"]["usageRecords"][
            "nodes"
        ]
        assert len(found) == 2
        for record in found:
            assert record["usage"] == {"tokensPrompt": 3, "tokensCompletion": 7, "tokensTotal": 10}
            amount = Decimal(record["amount"]["amount"])
            assert amount == Decimal(3 * ASK_PROMPT + 7 * ASK_COMPLETION).scaleb(-9)
            parts = Decimal(record["providerAmount"]["amount"]) + Decimal(record["feeAmount"]["amount"])
            assert parts == amount
            assert record["amount"] == {"amount": "0.000001700", "currency": "USD"}
            assert record["prices"] == {
                "prompt": {"amount": "0.000000100"},
                "completionPerMillion": {"amount": "0.200000000"},
            }
            assert record["model"]["slug"] == seller.model_slug
            assert record["revision"]["digest"] == seller.digest
            assert record["provider"]["slug"] == seller.provider_slug
            assert record["request"]["usageRecord"]["id"] == record["id"]
            assert record["request"]["id"].removeprefix("req") == record["id"].removeprefix("use")
            assert record["apiKey"] is None
            assert record["createdAt"].endswith("Z")

    async def test_statements_do_not_grow_with_the_page(
        self, api: Api, customer: Tenant, seller: Seller
    ) -> None:
        await api.use(customer, seller, 40)
        for _ in range(3):
            await api.use(customer, await api.seller(), 2)
        one = await statements_of(api, PAGE, customer.owner, id=customer.id, first=1)
        all_ = await statements_of(api, PAGE, customer.owner, id=customer.id, first=46)
        # The principal; then organization, records, requests, attempts, their usage, revisions, models, providers, projects.
        assert one == all_ <= 11

    async def test_one_connection_serves_a_query(self, api: Api, customer: Tenant, seller: Seller) -> None:
        await api.use(customer, seller, 5)
        most: list[int] = []

        def note(*_: Any) -> None:
            most[-1] = max(most[-1], api.services.engine.pool.checkedout())  # type: ignore[attr-defined]

        await api("{ viewer { user { id } } }", customer.owner)
        event.listen(api.services.engine.sync_engine, "before_cursor_execute", note)
        for _ in range(3):  # What the process asks by itself meanwhile, such as the prices, only adds.
            most.append(0)
            assert (await api(PAGE, customer.owner, id=customer.id)).data
        event.remove(api.services.engine.sync_engine, "before_cursor_execute", note)
        assert min(most) == 1

    async def test_nested_lists_of_many_parents_are_one_statement_each(
        self, api: Api, seller: Seller
    ) -> None:
        person = seller.tenant.owner
        one = await statements_of(api, TREE, person)
        for _ in range(3):
            other = await api.tenant()
            await self.join(api, other, person.user_id)
        assert await statements_of(api, TREE, person) == one

    async def join(self, api: Api, tenant: Tenant, user_id: Any) -> None:
        from raymart_marketplace.accounts.models import Role
        from raymart_marketplace.accounts.service import add_member
        from raymart_marketplace.db.session import session_scope

        async with session_scope(api.services.sessions) as session:
            await add_member(
                session, organization_id=tenant.organization_id, user_id=user_id, role=Role.DEVELOPER
            )


class TestCatalog:
    async def test_model_with_prices_offers_and_live_endpoints(
        self, api: Api, seller: Seller, replica: object
    ) -> None:
        query = """
        query ($slug: String!) {
          model(slug: $slug) {
            slug modality lowestPrices { prompt { amount } completion { amount } }
            revisions { nodes { digest engine quantization contextLength state } }
            offers { nodes { state asks { completion { amount } } provider { slug } } }
            liveEndpoints { nodes { region capacity running quarantined modelSlug provider { slug } revision { digest } } }
          }
        }
        """
        model = (await api(query, slug=seller.model_slug)).data["model"]
        assert model["lowestPrices"] == {
            "prompt": {"amount": "0.000000100"},
            "completion": {"amount": "0.000000200"},
        }
        assert model["revisions"]["nodes"] == [
            {
                "digest": seller.digest,
                "engine": "llama_cpp",
                "quantization": "q8_0",
                "contextLength": 1024,
                "state": "PUBLISHED",
            }
        ]
        assert [offer["provider"]["slug"] for offer in model["offers"]["nodes"]] == [seller.provider_slug]
        assert model["liveEndpoints"]["nodes"] == [
            {
                "region": "local",
                "capacity": 4,
                "running": 0,
                "quarantined": False,
                "modelSlug": seller.model_slug,
                "provider": {"slug": seller.provider_slug},
                "revision": {"digest": seller.digest},
            }
        ]

    async def test_unknown_model_is_null(self, api: Api) -> None:
        assert (await api('{ model(slug: "no/such") { slug } }')).data == {"model": None}

    async def test_suspended_provider_has_no_prices_and_no_open_offers(
        self, api: Api, seller: Seller
    ) -> None:
        from raymart_marketplace.db.session import session_scope
        from raymart_marketplace.supply.models import Provider, ProviderState

        async with session_scope(api.services.sessions) as session:
            (await session.get_one(Provider, seller.provider_id)).state = ProviderState.SUSPENDED
        query = "query ($slug: String!) { model(slug: $slug) { lowestPrices { prompt { amount } } offers { nodes { id } } } }"
        model = (await api(query, slug=seller.model_slug)).data["model"]
        assert model == {"lowestPrices": None, "offers": {"nodes": []}}
