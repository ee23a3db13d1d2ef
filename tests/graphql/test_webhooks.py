"""`POST /webhooks/stripe` under attack: what is not signed by Stripe, just now, for us, leaves no trace."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from stripe import WebhookSignature
from tests.graphql.test_deposits import CREATE, card_api, seen, stripe_server, tenant, top_up, wanted

from raymart_billing.deposits import Deposit, StripeEvent
from raymart_billing.work.models import InboxMessage
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Tenant
from support.fake_stripe import WEBHOOK_SECRET, FakeStripe

__all__ = ["card_api", "stripe_server", "tenant"]


async def post(api: Api, body: bytes, signature: str | None) -> httpx.Response:
    headers = {} if signature is None else {"stripe-signature": signature}
    return await api.client.post("/webhooks/stripe", content=body, headers=headers)


async def traces(api: Api) -> tuple[int, int]:
    async with session_scope(api.services.sessions) as session:
        events = await session.scalar(select(func.count()).select_from(StripeEvent))
        messages = await session.scalar(
            select(func.count()).select_from(InboxMessage).where(InboxMessage.source == "stripe")
        )
    return events or 0, messages or 0


async def event_of(api: Api, event_id: str) -> StripeEvent:
    async with session_scope(api.services.sessions) as session:
        return await session.get_one(StripeEvent, event_id)


async def pending(api: Api, tenant: Tenant, amount: str = "20") -> str:
    """A checkout session that waits to be paid."""
    data = (await api(CREATE, tenant.owner, input=wanted(tenant, amount))).data["createDeposit"]
    return data["deposit"]["checkoutUrl"].rsplit("/", 1)[1]


class TestForgery:
    async def test_refused_with_400_and_nothing_is_written(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        event = stripe_server.pay(await pending(card_api, tenant))
        body, good = stripe_server.sign(event)
        stamp = good.split(",")[0]
        _, foreign = stripe_server.sign(event, secret="whsec_of_somebody_else")
        _, old = stripe_server.sign(event, age_s=400)
        _, future = stripe_server.sign(event, age_s=-400)
        before = await traces(card_api)
        for signature in (
            None, "", "t=,v1=", stamp, f"{stamp},v1={'0' * 64}", f"{stamp},v0={good[-64:]}", foreign, old, future,
            f"t=x,{good.split(',')[1]}", "=" * 3_000, f"{good},t=1", f"{old},t={int(time.time())}", f"t={int(time.time())},{old}",
            f"t={int(time.time()) + 1},{good.split(',')[1]}",
        ):  # fmt: skip
            answer = await post(card_api, body, signature)
            assert answer.status_code == 400, signature
        for tampered in (body.replace(b'"paid"', b'"PAID"'), body + b" ", b"{}", b"\xff\xfe", b""):
            assert (await post(card_api, tampered, good)).status_code == 400
        assert await traces(card_api) == before
        assert (await seen(card_api, tenant))["deposits"]["nodes"][0]["state"] == "PENDING"

    async def test_secret_that_is_being_replaced_still_counts(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        event = stripe_server.pay(await pending(card_api, tenant))
        body, signature = stripe_server.sign(event, secret="whsec_old")
        assert (await post(card_api, body, signature)).status_code == 200
        assert (await seen(card_api, tenant))["deposits"]["nodes"][0]["state"] == "CREDITED"

    async def test_huge_body_is_refused_before_it_is_read(self, card_api: Api) -> None:
        before = await traces(card_api)
        answer = await post(card_api, b"x" * 2_000_000, "t=1,v1=0")
        assert answer.status_code == 413
        assert await traces(card_api) == before

    @pytest.mark.parametrize(
        "body",
        [
            b"[]",
            b"null",
            b"1",
            b'{"id": "evt_1"}',
            b"[" * 100_000,
            b'{"id": 1, "type": "x", "created": 1, "data": {}}',
        ],
    )
    async def test_signed_nonsense_is_a_400(self, card_api: Api, body: bytes) -> None:
        signature = WebhookSignature.generate_signature_header(body.decode(), WEBHOOK_SECRET)
        assert (await post(card_api, body, signature)).status_code == 400

    async def test_without_secrets_there_is_no_webhook(self, api: Api) -> None:
        body = b"{}"
        signature = WebhookSignature.generate_signature_header("{}", "")
        assert (await post(api, body, signature)).status_code == 404

    async def test_other_methods_are_not_allowed(self, card_api: Api) -> None:
        assert (await card_api.client.get("/webhooks/stripe")).status_code == 405


class TestOnce:
    async def test_forty_deliveries_at_once_credit_once(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        event = stripe_server.pay(await pending(card_api, tenant))
        body, signature = stripe_server.sign(event)
        answers = await asyncio.gather(*(post(card_api, body, signature) for _ in range(40)))
        assert {answer.status_code for answer in answers} == {200}
        shown = await seen(card_api, tenant)
        assert shown["balance"]["posted"]["amount"] == "20.000000000"

    async def test_two_events_of_one_payment_credit_once(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        """The event's id differs: it is the deposit that is credited once."""
        session_id = await pending(card_api, tenant)
        first = stripe_server.pay(session_id)
        second = first | {"id": f"{first['id']}_again", "type": "checkout.session.async_payment_succeeded"}
        deliveries = [stripe_server.sign(event) for event in (first, second) for _ in range(5)]
        answers = await asyncio.gather(*(post(card_api, *delivery) for delivery in deliveries))
        assert {answer.status_code for answer in answers} == {200}
        assert (await seen(card_api, tenant))["balance"]["posted"]["amount"] == "20.000000000"


class TestFraud:
    """Signed by Stripe, and still not what it should be."""

    async def deliver(self, api: Api, stripe: FakeStripe, event: dict[str, Any]) -> StripeEvent:
        answer = await post(api, *stripe.sign(event))
        assert answer.status_code == 200, answer.text
        return await event_of(api, event["id"])

    @pytest.mark.parametrize(
        "paid", [{"amount": 1}, {"amount": 1_999}, {"amount": 2_001}, {"currency": "eur"}]
    )
    async def test_other_amount_or_currency_is_held(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant, paid: dict[str, Any]
    ) -> None:
        event = stripe_server.pay(await pending(card_api, tenant), **paid)
        assert (await self.deliver(card_api, stripe_server, event)).state == "review"
        shown = await seen(card_api, tenant)
        assert shown["deposits"]["nodes"][0]["state"] == "SUCCEEDED"
        assert shown["balance"]["posted"]["amount"] == "0.000000000"

    async def test_session_that_only_names_a_deposit_credits_nothing(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        """Whoever can make sessions in the account, or edit a payment link's reference, has no say in whose they are."""
        session_id = await pending(card_api, tenant)
        event = stripe_server.pay(session_id)
        event["data"]["object"]["id"] = "cs_test_of_another_integration"
        assert (await self.deliver(card_api, stripe_server, event)).state == "review"
        assert (await seen(card_api, tenant))["balance"]["posted"]["amount"] == "0.000000000"

    async def test_payment_of_another_deposit_is_held(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        _, first = await top_up(card_api, stripe_server, tenant)
        event = stripe_server.pay(await pending(card_api, tenant))
        event["data"]["object"]["payment_intent"] = stripe_server.objects[first]["payment_intent"]
        assert (await self.deliver(card_api, stripe_server, event)).state == "review"
        assert (await seen(card_api, tenant))["balance"]["posted"]["amount"] == "20.000000000"

    @pytest.mark.parametrize("amount", [-2_000, 20.0, "2000", None, True, 10**30])
    async def test_amount_that_is_no_whole_number_moves_nothing(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant, amount: object
    ) -> None:
        event = stripe_server.pay(await pending(card_api, tenant))
        event["data"]["object"]["amount_total"] = amount
        body = json.dumps(event)
        signature = WebhookSignature.generate_signature_header(body, WEBHOOK_SECRET)
        assert (await post(card_api, body.encode(), signature)).status_code == 200
        assert (await event_of(card_api, event["id"])).state == "review"
        assert (await seen(card_api, tenant))["balance"]["posted"]["amount"] == "0.000000000"

    async def test_event_of_somebody_elses_deposit_is_ignored(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        event = stripe_server.pay(await pending(card_api, tenant))
        event["data"]["object"] |= {"id": "cs_test_unknown", "client_reference_id": None}
        assert (await self.deliver(card_api, stripe_server, event)).state == "ignored"

    async def test_other_kinds_of_events_are_ignored(self, card_api: Api, stripe_server: FakeStripe) -> None:
        event = stripe_server._event("customer.created", {"id": "cus_1", "email": "person@example.com"})
        found = await self.deliver(card_api, stripe_server, event)
        assert (found.state, found.fact) == ("ignored", None)

    async def test_nothing_of_the_cardholder_is_kept(
        self, card_api: Api, stripe_server: FakeStripe, tenant: Tenant
    ) -> None:
        event = stripe_server.pay(await pending(card_api, tenant))
        found = await self.deliver(card_api, stripe_server, event)
        async with session_scope(card_api.services.sessions) as session:
            deposit = await session.scalar(
                select(Deposit).where(Deposit.organization_id == tenant.organization_id)
            )
        kept = repr({**vars(found), **vars(deposit)})
        assert "cardholder" not in kept.lower()
        assert "Card Holder" not in kept
