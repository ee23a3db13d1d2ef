"""What a provider sees of its payouts: earnings by period, payments with their transactions, and what comes next."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from solders.keypair import Keypair

from raymart_billing.ledger.models import AccountKind, TransferCode
from raymart_billing.ledger.posting import Movement, open_account, post
from raymart_billing.payouts.models import (
    BatchState,
    ItemState,
    PartState,
    PayoutBatch,
    PayoutItem,
    PayoutPart,
)
from raymart_billing.payouts.provider_view import UNPAID_IN_WORDS, PaymentState, UnpaidReason, payment_state
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.models import Role
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Person, Seller, api_server, control_settings
from support.own_database import database_url, owner_url
from support.payout_rows import PayoutRows
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
        async with session_scope(api.services.sessions) as session:
            payable = await open_account(session, AccountKind.PROVIDER_PAYABLE, seller.provider_id)
            clearing = await open_account(session, AccountKind.USAGE_CLEARING, seller.tenant.organization_id)
            loss = await open_account(session, AccountKind.PLATFORM_LOSS)
            amount = Money(5_000_000_777)
            await post(
                session,
                [
                    Movement(
                        key=f"test:{new_id()}",
                        debit_account_id=debit,
                        credit_account_id=credit,
                        amount=amount,
                        code=code,
                    )
                    for debit, credit, code in (
                        (loss, clearing, TransferCode.USAGE_SHORTFALL),
                        (clearing, payable, TransferCode.USAGE_EARNING),
                    )
                ],
            )
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
