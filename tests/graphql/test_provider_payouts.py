"""What a provider sees of its payouts: earnings by period, payments with their transactions, what comes next, and invoices."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from solders.keypair import Keypair

from raymart_billing.invoices import Party
from raymart_billing.payouts.models import (
    BatchState,
    ItemState,
    PartState,
    PayoutBatch,
    PayoutItem,
    PayoutPart,
)
from raymart_billing.payouts.provider_view import UNPAID_IN_WORDS, PaymentState, UnpaidReason, payment_state
from raymart_billing.self_billing import issue_self_billing_invoice
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.models import Role
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Person, Seller, api_server, control_settings
from support.own_database import database_url, owner_url
from support.payout_rows import PayoutRows
from support.provider_books import ProviderBooks
from support.statements import statements_of

__all__ = ["database_url", "owner_url"]

EARNINGS = """query ($id: ID!) {
  provider(id: $id) {
    earningsByPeriod(first: 10) {
      nodes {
        period { number startsAt endsAt }
        gross { amount currency } clawback { amount } holdback { amount } maturesAt payable { amount }
        carriedIn { amount } carriedOver { amount } unpaidBecause
        payment { amount { amount currency } state }
      }
    }
  }
}"""
PAYOUTS = """query ($id: ID!) {
  provider(id: $id) {
    payouts(first: 10) {
      nodes { amount { amount currency } state wallet reason batchNumber signature explorerUrl finalizedAt period { number } }
    }
  }
}"""
NEXT = """query ($id: ID!) {
  provider(id: $id) {
    nextPayout { atMost { amount currency } minimum { amount } periodEndsAt blockedBecause }
  }
}"""
LISTED = """query ($id: ID!) {
  provider(id: $id) {
    selfBillingInvoices(first: 5) {
      nodes { number issuedAt supplied { amount } paid { amount currency } closingBalance { amount } contentSha256 pdfPath csvPath }
    }
  }
}"""
WALLET = str(Keypair().pubkey())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(database_url: str, redis_server: EmbeddedRedis) -> AsyncIterator[Api]:
    """On a database of this file's own: epochs are the whole market's, and must not overlap."""
    async with api_server(control_settings(database_url, redis_url=redis_server.url)) as api:
        yield api


@pytest.fixture
def rows(owner_url: str) -> PayoutRows:
    return PayoutRows(owner_url)


async def ask(api: Api, seller: Seller, query: str, field: str, by: Person | None = None) -> Any:
    answer = await api(query, by or seller.tenant.owner, id=seller.id)
    return answer.data["provider"][field]


class TestEarningsByPeriod:
    async def test_sums_payment_and_what_was_carried(
        self, api: Api, seller: Seller, rows: PayoutRows
    ) -> None:
        first, second = rows.epoch(), rows.epoch()
        rows.earning(
            seller.provider_id,
            first,
            gross_nano_usd=3_000_000_500,
            clawback_nano_usd=200_000_000,
            holdback_nano_usd=280_000_000,
            unpaid_reason="below_minimum",
        )
        rows.earning(seller.provider_id, second, gross_nano_usd=1_000_000_000)
        rows.payment(seller.provider_id, second, micro_usdc=3_520_000, wallet=WALLET)
        found = await ask(api, seller, EARNINGS, "earningsByPeriod", seller.tenant.people[Role.OPERATOR])
        newest, oldest = found["nodes"]
        assert oldest["gross"] == {"amount": "3.000000500", "currency": "USD"}
        assert oldest["payable"] == oldest["carriedOver"] == {"amount": "2.520000500"}
        assert oldest["payment"] is None
        assert "carried over" in oldest["unpaidBecause"]
        assert oldest["maturesAt"] is not None
        assert newest["payment"] == {"amount": {"amount": "3.520000", "currency": "USDC"}, "state": "PAID"}
        assert newest["carriedIn"] == {"amount": "2.520000000"}
        assert newest["carriedOver"] == {"amount": "0.000000000"}
        assert newest["unpaidBecause"] is None
        assert int(newest["period"]["number"]) == int(oldest["period"]["number"]) + 1

    async def test_returned_payment_leaves_the_period_unpaid(
        self, api: Api, seller: Seller, rows: PayoutRows
    ) -> None:
        epoch = rows.epoch()
        rows.earning(seller.provider_id, epoch, gross_nano_usd=2_000_000_000, unpaid_reason="no_wallet")
        rows.payment(
            seller.provider_id,
            epoch,
            micro_usdc=2_000_000,
            wallet=WALLET,
            item="returned",
            batch="cancelled",
            part=None,
            reason="the batch was cancelled",
        )
        [node] = (await ask(api, seller, EARNINGS, "earningsByPeriod"))["nodes"]
        assert node["payment"] is None
        assert node["carriedOver"] == {"amount": "2.000000000"}
        assert "prove a wallet" in node["unpaidBecause"]

    async def test_page_of_any_length_takes_as_many_statements(
        self, api: Api, seller: Seller, rows: PayoutRows
    ) -> None:
        counts = []
        for _ in range(2):
            for _ in range(3):
                epoch = rows.epoch()
                rows.earning(seller.provider_id, epoch, gross_nano_usd=2_000_000_000)
                rows.payment(seller.provider_id, epoch, micro_usdc=2_000_000, wallet=WALLET)
            counts.append(await statements_of(api, EARNINGS, seller.tenant.owner, id=seller.id))
        assert counts[0] == counts[1]


class TestPayouts:
    async def test_paid_one_has_its_transaction(self, api: Api, seller: Seller, rows: PayoutRows) -> None:
        paid = rows.payment(seller.provider_id, rows.epoch(), micro_usdc=1_234_567, wallet=WALLET)
        [node] = (await ask(api, seller, PAYOUTS, "payouts"))["nodes"]
        assert node["state"] == "PAID"
        assert node["amount"] == {"amount": "1.234567", "currency": "USDC"}
        assert node["signature"] == paid.signature
        assert node["explorerUrl"] == f"https://explorer.solana.com/tx/{paid.signature}"
        assert node["finalizedAt"] is not None
        assert node["wallet"] == WALLET

    async def test_refused_one_shows_no_transaction_though_its_part_has_landed(
        self, api: Api, seller: Seller, rows: PayoutRows
    ) -> None:
        rows.payment(
            seller.provider_id,
            rows.epoch(),
            micro_usdc=1,
            wallet=WALLET,
            item="quarantined",
            reason="account_frozen",
        )
        [node] = (await ask(api, seller, PAYOUTS, "payouts"))["nodes"]
        assert (node["state"], node["reason"]) == ("REFUSED", "account_frozen")
        assert node["signature"] is node["explorerUrl"] is node["finalizedAt"] is None

    @pytest.mark.parametrize(
        ("batch", "part", "state"),
        [
            ("planned", None, PaymentState.PLANNED),
            ("reviewed", None, PaymentState.PLANNED),
            ("held", None, PaymentState.HELD),
            ("approved", "planned", PaymentState.APPROVED),
            ("sending", "waiting_funds", PaymentState.APPROVED),
            ("sending", "signed", PaymentState.SENT),
            ("sending", "submitted", PaymentState.SENT),
            ("sending", "held", PaymentState.HELD),
            ("sending", "failed", PaymentState.HELD),
        ],
    )
    def test_states_follow_the_batch_and_the_part(
        self, batch: str, part: str | None, state: PaymentState
    ) -> None:
        found = payment_state(
            PayoutItem(state=ItemState.PLANNED),
            PayoutBatch(state=BatchState(batch)),
            None if part is None else PayoutPart(state=PartState(part)),
        )
        assert found is state


class TestNextPayout:
    async def test_estimate_and_what_stands_in_its_way(self, api: Api, seller: Seller) -> None:
        await ProviderBooks(api.services.sessions, seller.provider_id).earn(5_000_000_777)
        found = await ask(api, seller, NEXT, "nextPayout")
        assert found["atMost"] == {"amount": "5.000000", "currency": "USDC"}
        assert found["minimum"] == {"amount": "1.000000"}
        assert "no payout wallet is chosen" in found["blockedBecause"]

    def test_every_reason_has_words(self) -> None:

        assert set(UNPAID_IN_WORDS) == set(UnpaidReason)


class TestPermissions:
    @pytest.mark.parametrize(
        "field",
        [
            "earningsByPeriod { nodes { payable { amount } } }",
            "payouts { nodes { wallet } }",
            "nextPayout { atMost { amount } }",
        ],
    )
    async def test_it_is_for_the_providers_people(
        self, api: Api, seller: Seller, rows: PayoutRows, field: str
    ) -> None:
        rows.payment(seller.provider_id, rows.epoch(), micro_usdc=1, wallet=WALLET)
        rival = await api.seller()
        query = f"query ($id: ID!) {{ provider(id: $id) {{ {field} }} }}"
        for person in (rival.tenant.owner, (await api.tenant()).owner, None):
            assert (await api(query, person, id=seller.id)).code in {"FORBIDDEN", "UNAUTHENTICATED"}
        for person in (seller.tenant.people[Role.VIEWER], await api.admin()):
            assert (await api(query, person, id=seller.id)).data["provider"]


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
