"""Self-billing invoices as providers list and download them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from solders.keypair import Keypair

from raymart_billing.invoices import Party
from raymart_billing.self_billing import issue_self_billing_invoice
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.models import Role
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Person, Seller, api_server, control_settings
from support.own_database import database_url, owner_url
from support.payout_rows import PayoutRows
from support.provider_books import ProviderBooks

__all__ = ["database_url", "owner_url"]

LISTED = """query ($id: ID!) {
  provider(id: $id) {
    selfBillingInvoices(first: 5) {
      nodes { number issuedAt supplied { amount } paid { amount currency } closingBalance { amount } contentSha256 pdfPath csvPath }
    }
  }
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(database_url: str, redis_server: EmbeddedRedis) -> AsyncIterator[Api]:
    """On a database of this file's own: epochs are the whole market's."""
    async with api_server(control_settings(database_url, redis_url=redis_server.url)) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def number(api: Api, seller: Seller, owner_url: str) -> str:
    """Of the seller's one document."""
    rows, books = PayoutRows(owner_url), ProviderBooks(api.services.sessions, seller.provider_id)
    await books.earn(2_500_000_007)
    paid = rows.payment(
        seller.provider_id, rows.epoch(), micro_usdc=2_500_000, wallet=str(Keypair().pubkey())
    )
    await books.send(paid.item_id, 2_500_000)
    await books.settle(paid.item_id, 2_500_000)
    market = Party(legal_name="Raymart", address="", country="", tax_id=None, email="b@r.example")
    async with session_scope(api.services.sessions) as session:
        return (await issue_self_billing_invoice(session, paid.item_id, recipient=market)).number


async def download(api: Api, path: str, by: Person | str | None) -> tuple[int, bytes, str]:
    token = by.token if isinstance(by, Person) else by
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = await api.client.get(path, headers=headers)
    return answer.status_code, answer.content, answer.headers["content-type"]


class TestSelfBilling:
    async def test_document_is_listed_and_downloaded(self, api: Api, seller: Seller, number: str) -> None:
        answer = await api(LISTED, seller.tenant.people[Role.VIEWER], id=seller.id)
        [node] = answer.data["provider"]["selfBillingInvoices"]["nodes"]
        assert node["number"] == number
        assert node["supplied"] == {"amount": "2.500000007"}
        assert node["paid"] == {"amount": "2.500000", "currency": "USDC"}
        assert node["closingBalance"] == {"amount": "0.000000007"}
        status, content, kind = await download(api, node["pdfPath"], seller.tenant.owner)
        assert (status, content[:5], kind) == (200, b"%PDF-", "application/pdf")
        status, content, _ = await download(api, node["csvPath"], seller.tenant.owner)
        assert status == 200
        assert b"2.500000007" in content

    @pytest.mark.parametrize("kind", ["pdf", "csv"])
    async def test_others_get_what_those_get_who_ask_for_nothing(
        self, api: Api, seller: Seller, number: str, kind: str
    ) -> None:
        rival, customer = await api.seller(), await api.tenant()
        missing = await download(api, f"/billing/self-billing/RMS-2020-000001.{kind}", rival.tenant.owner)
        for person in (rival.tenant.owner, customer.owner, seller.tenant.people[Role.OPERATOR]):
            status, content, _ = await download(api, f"/billing/self-billing/{number}.{kind}", person)
            assert status == missing[0] == 404
            assert number.encode() not in content or b"no such document" in content
        assert (await download(api, f"/billing/self-billing/{number}.{kind}", None))[0] == 401
        _, key = await api.api_key(seller.tenant)
        assert (await download(api, f"/billing/self-billing/{number}.{kind}", key))[0] == 403

    @pytest.mark.parametrize("name", ["nope", "RMS-2026-1", "RM-2026-000001", "RMS-2026-000001%00", "%2e%2e"])
    async def test_names_of_nothing_are_not_found(self, api: Api, seller: Seller, name: str) -> None:
        status, _, _ = await download(api, f"/billing/self-billing/{name}.pdf", seller.tenant.owner)
        assert status == 404

    async def test_list_is_for_those_who_read_the_providers_billing(
        self, api: Api, seller: Seller, number: str
    ) -> None:
        assert number
        rival = await api.seller()
        for person in (rival.tenant.owner, seller.tenant.people[Role.OPERATOR]):
            assert (await api(LISTED, person, id=seller.id)).code == "FORBIDDEN"
        assert (await api(LISTED, await api.admin(), id=seller.id)).data["provider"]
