"""Topping up, paying back, correcting and blocking, over GraphQL; and a Stripe on the other side."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from raymart_core.ids import new_id
from support.api_server import Api, Person, Tenant, api_server, control_settings
from support.fake_stripe import API_KEY, WEBHOOK_SECRET, FakeStripe
from support.scripted_replica import Exchange, ScriptedReplica

CREATE = """mutation ($input: CreateDepositInput!) { createDeposit(input: $input) {
  deposit { id state amount { amount } checkoutUrl heldForReview } userErrors { code field message } } }"""
ORGANIZATION = """query ($id: ID!) { organization(id: $id) {
  balance { posted { amount } promotional { amount } paid { amount } owed { amount } }
  billingBlock { reason byRule } lowBalanceThreshold { amount }
  deposits { nodes { id state credited { amount } refunded { amount }
    refunds { state origin amount { amount } reason } disputes { stage owed { amount } } } }
  creditGrants { nodes { amount { amount } remaining { amount } expiresAt source reason } }
  alerts { nodes { kind } } } }"""


@pytest.fixture(scope="session")
def stripe_server() -> Iterator[FakeStripe]:
    """One Stripe for this file; every deposit has a session of its own in it."""
    with FakeStripe() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def card_api(database_url: str, stripe_server: FakeStripe) -> AsyncIterator[Api]:
    """A control plane with the card rail."""
    settings = control_settings(
        database_url,
        stripe_api_key=API_KEY,
        stripe_webhook_secrets=f"whsec_old,{WEBHOOK_SECRET}",
        stripe_api_base=stripe_server.url,
    )
    async with api_server(settings) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def tenant(card_api: Api) -> Tenant:
    return await card_api.tenant()


@pytest_asyncio.fixture(loop_scope="session")
async def admin(card_api: Api) -> Person:
    return await card_api.admin()


def wanted(tenant: Tenant, amount: object = "20", **changes: Any) -> dict[str, Any]:
    return {"organizationId": tenant.id, "amount": amount, "idempotencyKey": new_id().hex} | changes


async def deliver(api: Api, stripe: FakeStripe, event: dict[str, Any]) -> None:
    body, signature = stripe.sign(event)
    answer = await api.client.post("/webhooks/stripe", content=body, headers={"stripe-signature": signature})
    assert answer.status_code == 200, answer.text


async def top_up(api: Api, stripe: FakeStripe, tenant: Tenant, amount: str = "20") -> tuple[str, str]:
    """The deposit's and the checkout session's id, once it is credited."""
    data = (await api(CREATE, tenant.owner, input=wanted(tenant, amount))).data["createDeposit"]
    session_id = data["deposit"]["checkoutUrl"].rsplit("/", 1)[1]
    await deliver(api, stripe, stripe.pay(session_id))
    return data["deposit"]["id"], session_id


async def seen(api: Api, tenant: Tenant) -> dict[str, Any]:
    return (await api(ORGANIZATION, tenant.owner, id=tenant.id)).data["organization"]


class TestCreateDeposit:
    async def test_gives_a_page_and_the_money_arrives(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        data = (await card_api(CREATE, tenant.owner, input=wanted(tenant, "20.50"))).data["createDeposit"]
        assert data["userErrors"] == []
        assert data["deposit"]["state"] == "PENDING"
        page = data["deposit"]["checkoutUrl"]
        assert page.startswith("https://checkout.stripe.com/")
        await deliver(card_api, stripe_server, stripe_server.pay(page.rsplit("/", 1)[1]))
        shown = await seen(card_api, tenant)
        assert Decimal(shown["balance"]["paid"]["amount"]) == Decimal("20.50")
        assert Decimal(shown["balance"]["promotional"]["amount"]) == 0
        assert [each["state"] for each in shown["deposits"]["nodes"]] == ["CREDITED"]

    async def test_same_key_gives_the_same_page(self, card_api: Api, tenant: Tenant) -> None:
        given = wanted(tenant)
        answers = [(await card_api(CREATE, tenant.owner, input=given)).data for _ in range(3)]
        assert len({answer["createDeposit"]["deposit"]["checkoutUrl"] for answer in answers}) == 1

    @pytest.mark.parametrize(
        "amount", ["4.99", "10000.01", "0", "-20", "10.005", "99999999999999999999", "1e30", "0.000000001"]
    )
    async def test_unfit_amount_is_a_user_error_and_stripe_is_not_asked(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant, amount: str
    ) -> None:
        before = len(stripe_server.calls)
        [error] = (await card_api(CREATE, tenant.owner, input=wanted(tenant, amount))).data["createDeposit"][
            "userErrors"
        ]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "amount"])
        assert len(stripe_server.calls) == before

    @pytest.mark.parametrize("amount", [20.5, "NaN", "Infinity", "", None, True])
    async def test_what_is_no_decimal_is_refused_before_anything_runs(
        self, card_api: Api, tenant: Tenant, amount: object
    ) -> None:
        assert (await card_api(CREATE, tenant.owner, input=wanted(tenant, amount))).code == "BAD_USER_INPUT"

    async def test_without_a_key_it_says_what_is_missing(self, api: Api, customer: Tenant) -> None:
        [error] = (await api(CREATE, customer.owner, input=wanted(customer))).data["createDeposit"][
            "userErrors"
        ]
        assert error["code"] == "UNAVAILABLE"
        assert "not configured" in error["message"]

    async def test_stripe_away_is_told_and_the_same_key_goes_on(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        stripe_server.faults.extend(["error"] * 3)
        given = wanted(tenant)
        [error] = (await card_api(CREATE, tenant.owner, input=given)).data["createDeposit"]["userErrors"]
        assert error["code"] == "UNAVAILABLE"
        data = (await card_api(CREATE, tenant.owner, input=given)).data["createDeposit"]
        assert data["deposit"]["state"] == "PENDING"


class TestRefundDeposit:
    MUTATION = """mutation ($input: RefundDepositInput!) { refundDeposit(input: $input) {
      deposit { state refunded { amount } refunds { state amount { amount } } } userErrors { code field message } } }"""

    async def test_goes_back_to_the_card(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant, admin: Person
    ) -> None:
        deposit_id, session_id = await top_up(card_api, stripe_server, tenant)
        given = {"depositId": deposit_id, "amount": "12.34", "reason": "asked for it", "idempotencyKey": "k"}
        for _ in range(2):
            data = (await card_api(self.MUTATION, admin, input=given)).data["refundDeposit"]
            assert data["userErrors"] == []
            assert [each["state"] for each in data["deposit"]["refunds"]] == ["SUCCEEDED"]
        assert stripe_server.charge_of(session_id)["amount_refunded"] == 1_234
        assert Decimal((await seen(card_api, tenant))["balance"]["posted"]["amount"]) == Decimal("7.66")

    async def test_what_cannot_be_is_a_user_error(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant, admin: Person
    ) -> None:
        deposit_id, session_id = await top_up(card_api, stripe_server, tenant)
        good = {"depositId": deposit_id, "amount": "1", "reason": "r", "idempotencyKey": "k"}
        for name, value in [
            ("amount", "20.01"),
            ("amount", "0"),
            ("amount", "-1"),
            ("amount", "1.001"),
            ("reason", "  "),
            ("idempotencyKey", ""),
        ]:
            answer = await card_api(self.MUTATION, admin, input=good | {name: value})
            [error] = answer.data["refundDeposit"]["userErrors"]
            assert error["field"] == ["input", name], value
        assert stripe_server.charge_of(session_id)["amount_refunded"] == 0


class TestDisputes:
    async def test_customer_sees_it_and_administrators_list_it(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant, admin: Person
    ) -> None:
        _, session_id = await top_up(card_api, stripe_server, tenant)
        dispute_id, event = stripe_server.dispute(session_id)
        await deliver(card_api, stripe_server, event)
        shown = await seen(card_api, tenant)
        assert shown["billingBlock"]["byRule"]
        [deposit] = shown["deposits"]["nodes"]
        assert deposit["state"] == "DISPUTED"
        assert [each["stage"] for each in deposit["disputes"]] == ["OPEN"]
        query = "{ disputes(first: 100) { nodes { organization { id } stage amount { amount } fromBalance { amount } } } }"
        listed = (await card_api(query, admin)).data["disputes"]["nodes"]
        mine = [each for each in listed if each["organization"] and each["organization"]["id"] == tenant.id]
        assert [Decimal(each["amount"]["amount"]) for each in mine] == [20]
        assert dispute_id

    async def test_disputing_customer_is_served_no_more_until_the_bank_decided_for_us(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        """Credit that its gateway has leased already does not help it either: a block recalls the lease."""
        _, session_id = await top_up(card_api, stripe_server, tenant, "20")
        await card_api.credit(tenant, 10**10)
        seller = await card_api.seller()

        async def answer(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step()
            exchange.finish(revision=seller.digest)

        _, secret = await card_api.api_key(tenant)
        async with ScriptedReplica(answer) as replica:
            await card_api.serve(seller, replica)

            async def ask() -> tuple[int, str]:
                response = await card_api.client.post(
                    "/v1/chat/completions",
                    headers={"authorization": f"Bearer {secret}"},
                    json={
                        "model": seller.model_slug,
                        "messages": [{"role": "user", "content": "hi"}],
                        "max_tokens": 1,
                    },
                )
                return response.status_code, response.text

            assert (await ask())[0] == 200
            dispute_id, event = stripe_server.dispute(session_id)
            await deliver(card_api, stripe_server, event)
            async with asyncio.timeout(30):
                while (refused := await ask())[0] == 200:
                    await asyncio.sleep(0.05)
            assert refused[0] == 403
            assert "open payment question" in refused[1]
            won = stripe_server.dispute_moves(dispute_id, status="won", kind="closed")
            await deliver(card_api, stripe_server, won)
            assert (await seen(card_api, tenant))["billingBlock"] is None
            assert (await ask())[0] == 200
            card_api.retire(seller)


class TestReview:
    async def test_held_payment_is_credited_by_an_administrators_word(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant, admin: Person
    ) -> None:
        data = (await card_api(CREATE, tenant.owner, input=wanted(tenant))).data["createDeposit"]
        session_id = data["deposit"]["checkoutUrl"].rsplit("/", 1)[1]
        await deliver(card_api, stripe_server, stripe_server.pay(session_id, amount=700))
        held = (await card_api("{ heldDeposits(last: 100) { nodes { id state } } }", admin)).data
        assert {"id": data["deposit"]["id"], "state": "SUCCEEDED"} in held["heldDeposits"]["nodes"]
        mutation = """mutation ($id: ID!, $reason: String!) { creditHeldDeposit(input: {depositId: $id, reason: $reason}) {
          deposit { state credited { amount } } userErrors { code } } }"""
        refused = (await card_api(mutation, admin, id=data["deposit"]["id"], reason="")).data
        assert refused["creditHeldDeposit"]["userErrors"] == [{"code": "INVALID"}]
        done = (await card_api(mutation, admin, id=data["deposit"]["id"], reason="the customer agrees")).data
        assert Decimal(done["creditHeldDeposit"]["deposit"]["credited"]["amount"]) == 7
        again = (await card_api(mutation, admin, id=data["deposit"]["id"], reason="twice")).data
        assert again["creditHeldDeposit"]["userErrors"] == [{"code": "CONFLICT"}]

    async def test_event_in_review_is_seen_to_once(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant, admin: Person
    ) -> None:
        data = (await card_api(CREATE, tenant.owner, input=wanted(tenant))).data["createDeposit"]
        event = stripe_server.pay(data["deposit"]["checkoutUrl"].rsplit("/", 1)[1], amount=1)
        await deliver(card_api, stripe_server, event)
        mutation = """mutation ($id: String!) { resolveStripeEvent(input: {eventId: $id, reason: "paid back by hand"}) {
          event { state resolution } userErrors { code } } }"""
        done = (await card_api(mutation, admin, id=event["id"])).data["resolveStripeEvent"]
        assert done["event"] == {"state": "RESOLVED", "resolution": "paid back by hand"}
        again = (await card_api(mutation, admin, id=event["id"])).data["resolveStripeEvent"]
        assert again["userErrors"] == [{"code": "CONFLICT"}]
        assert (await seen(card_api, tenant))["deposits"]["nodes"][0]["state"] == "SUCCEEDED"


class TestGrantsAndAdjustments:
    GRANT = """mutation ($input: GrantCreditInput!) { grantCredit(input: $input) {
      transfer { id } organization { balance { promotional { amount } paid { amount } } } userErrors { code field } } }"""
    ADJUST = """mutation ($input: AdjustBalanceInput!) { adjustBalance(input: $input) {
      organization { balance { posted { amount } } } userErrors { code field } } }"""

    async def test_grant_with_an_end_is_promotional(
        self, card_api: Api, tenant: Tenant, admin: Person
    ) -> None:
        until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
        given = wanted(tenant, "5", expiresAt=until, reason="welcome", source="PROMOTION")
        data = (await card_api(self.GRANT, admin, input=given)).data["grantCredit"]
        assert data["userErrors"] == []
        assert Decimal(data["organization"]["balance"]["promotional"]["amount"]) == 5
        [grant] = (await seen(card_api, tenant))["creditGrants"]["nodes"]
        assert (grant["source"], grant["reason"]) == ("PROMOTION", "welcome")
        assert Decimal(grant["remaining"]["amount"]) == 5

    async def test_grant_that_has_ended_already_is_refused(
        self, card_api: Api, tenant: Tenant, admin: Person
    ) -> None:
        given = wanted(tenant, "5", expiresAt="2020-01-01T00:00:00Z")
        data = (await card_api(self.GRANT, admin, input=given)).data["grantCredit"]
        assert data["userErrors"] == [{"code": "INVALID", "field": ["input", "expiresAt"]}]
        assert (await seen(card_api, tenant))["creditGrants"]["nodes"] == []

    async def test_adjustment_goes_both_ways_and_never_below_zero(
        self, card_api: Api, tenant: Tenant, admin: Person
    ) -> None:
        async def adjust(amount: str, **changes: str) -> dict[str, Any]:
            given = wanted(tenant, amount, reason="a mistake of ours") | changes
            return (await card_api(self.ADJUST, admin, input=given)).data["adjustBalance"]

        assert Decimal((await adjust("3"))["organization"]["balance"]["posted"]["amount"]) == 3
        assert Decimal((await adjust("-1"))["organization"]["balance"]["posted"]["amount"]) == 2
        assert (await adjust("-2.000000001"))["userErrors"][0]["code"] == "INSUFFICIENT_FUNDS"
        assert (await adjust("0"))["userErrors"] == [{"code": "INVALID", "field": ["input", "amount"]}]
        assert (await adjust("1", reason=" "))["userErrors"] == [
            {"code": "INVALID", "field": ["input", "reason"]}
        ]
        key = {"idempotencyKey": new_id().hex}
        await adjust("1", **key)
        await adjust("1", **key)
        assert (await adjust("2", **key))["userErrors"][0]["code"] == "CONFLICT"
        assert Decimal((await seen(card_api, tenant))["balance"]["posted"]["amount"]) == 3


class TestBlock:
    async def test_block_and_unblock_with_a_reason(
        self, card_api: Api, tenant: Tenant, admin: Person
    ) -> None:
        block = 'mutation ($id: ID!) { blockCustomer(input: {organizationId: $id, reason: "fraud"}) { userErrors { code } } }'
        unblock = block.replace("blockCustomer", "unblockCustomer")
        assert (await card_api(unblock, admin, id=tenant.id)).data["unblockCustomer"]["userErrors"] == [
            {"code": "CONFLICT"}
        ]
        await card_api(block, admin, id=tenant.id)
        assert (await seen(card_api, tenant))["billingBlock"] == {"reason": "fraud", "byRule": False}
        await card_api(unblock, admin, id=tenant.id)
        assert (await seen(card_api, tenant))["billingBlock"] is None


class TestThreshold:
    async def test_own_threshold_takes_the_place_of_the_marketplaces(
        self, card_api: Api, tenant: Tenant
    ) -> None:
        mutation = """mutation ($id: ID!, $threshold: Decimal) {
          setLowBalanceThreshold(input: {organizationId: $id, threshold: $threshold}) {
            organization { lowBalanceThreshold { amount } } userErrors { code field } } }"""

        async def choose(threshold: str | None) -> dict[str, Any]:
            answer = await card_api(mutation, tenant.owner, id=tenant.id, threshold=threshold)
            return answer.data["setLowBalanceThreshold"]

        assert Decimal((await seen(card_api, tenant))["lowBalanceThreshold"]["amount"]) == 5
        chosen = await choose("12")
        assert Decimal(chosen["organization"]["lowBalanceThreshold"]["amount"]) == 12
        assert (await choose("-1"))["userErrors"] == [{"code": "INVALID", "field": ["input", "threshold"]}]
        back = await choose(None)
        assert Decimal(back["organization"]["lowBalanceThreshold"]["amount"]) == 5
