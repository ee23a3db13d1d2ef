"""Providers' and machines' lives over GraphQL: applying, being approved, draining with notice, maintenance, histories."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from raymart_billing.mail.channel import Notice
from raymart_billing.mail.contact_mail import CONTACT_TASK, send_contact
from raymart_billing.work.models import OutboxItem
from raymart_core.ids import Prefix, new_id, parse, show
from raymart_marketplace.accounts.account_mail import MailTokens
from raymart_marketplace.accounts.models import OrganizationKind
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.life_models import ProviderContact
from raymart_marketplace.supply.presence import keep_clock_skew, link_up
from support.api_server import Api, Seller, Tenant
from support.payout_wallets import Payee, choose

REGISTER = """mutation ($input: RegisterProviderInput!) { registerProvider(input: $input) {
  provider { id slug state application { website about contactEmail contactVerifiedAt } } userErrors { code field message } } }"""
CONTACT = """mutation ($input: SetProviderContactInput!) { setProviderContact(input: $input) {
  provider { id } userErrors { code field message } } }"""
VERIFY = """mutation ($token: String!) { verifyProviderContact(input: {token: $token}) {
  provider { slug } userErrors { code field } } }"""
APPROVE = """mutation ($id: ID!) { approveProvider(input: {providerId: $id, reason: "looks fine"}) {
  provider { state } userErrors { code message } } }"""
DECLINE = """mutation ($id: ID!, $reason: String!) { declineProvider(input: {providerId: $id, reason: $reason}) {
  provider { state } userErrors { code field } } }"""
CLOSE = """mutation ($id: ID!) { closeProvider(input: {providerId: $id}) { provider { state } userErrors { code } } }"""
HISTORY = """query ($id: ID!) { provider(id: $id) { state application { contactEmail contactVerifiedAt }
  history(first: 20) { nodes { event fromState toState reason actorKind } } } }"""
LISTING = """query ($state: ProviderState, $search: String) { providers(first: 50, state: $state, search: $search) {
  nodes { slug application { contactEmail } payoutWallet { address } } } }"""


class Box:
    """A mail channel that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        self.sent.append(notice)


async def register(api: Api, tenant: Tenant, **changes: Any) -> dict[str, Any]:
    asked = {
        "organizationId": tenant.id,
        "slug": f"prov-{new_id().hex[-12:]}",
        "name": "Fast GPUs",
        "contactEmail": "Ops@Example.com",
        "website": "https://gpus.example.com",
        "about": "Eight cards",
    }
    found: dict[str, Any] = (await api(REGISTER, tenant.owner, input=asked | changes)).data[
        "registerProvider"
    ]
    return found


async def deliver(api: Api, provider: str) -> tuple[Notice, str]:
    """The newest mail to the provider's contact, and the token in it."""
    sessions, box = api.services.sessions, Box()
    async with session_scope(sessions) as session:
        contact_id = await session.scalar(
            select(ProviderContact.id)
            .where(ProviderContact.provider_id == parse(Prefix.PROVIDER, provider))
            .order_by(ProviderContact.id.desc())
            .limit(1)
        )
        assert contact_id is not None
        asked = select(OutboxItem.id).where(
            OutboxItem.task == CONTACT_TASK, OutboxItem.subject == str(contact_id)
        )
        assert await session.scalar(asked) is not None
    tokens: MailTokens = api.services.people.mailing.tokens
    for _ in range(2):
        await send_contact(sessions, box, contact_id, tokens=tokens, console_url="https://x/console/")
    [notice] = box.sent
    return notice, tokens.token(contact_id)


async def give_wallet(api: Api, tenant: Tenant, provider: str) -> None:
    """Prove and choose a payout wallet."""
    payee = Payee(
        provider_id=parse(Prefix.PROVIDER, provider),
        organization_id=tenant.organization_id,
        owner_id=tenant.owner.user_id,
        email=tenant.owner.email,
    )
    async with session_scope(api.services.sessions) as session:
        await choose(session, payee, payee.wallet)


class TestApplying:
    async def test_an_applicant_is_reached_by_mail_and_approved_with_contact_and_wallet(
        self, api: Api
    ) -> None:
        tenant, admin = await api.tenant(OrganizationKind.PROVIDER), await api.admin()
        made = (await register(api, tenant))["provider"]
        assert made["state"] == "APPLIED"
        assert made["application"] == {
            "website": "https://gpus.example.com",
            "about": "Eight cards",
            "contactEmail": None,
            "contactVerifiedAt": None,
        }
        notice, token = await deliver(api, made["id"])
        assert notice.addresses == ["ops@example.com"]
        assert token in notice.text
        refused = (await api(APPROVE, admin, id=made["id"])).data["approveProvider"]["userErrors"]
        assert refused[0]["code"] == "CONFLICT"
        assert "a verified contact and a payout wallet" in refused[0]["message"]
        assert (await api(VERIFY, token=token)).data["verifyProviderContact"]["provider"]["slug"] == made[
            "slug"
        ]
        again = (await api(VERIFY, token=token)).data["verifyProviderContact"]
        assert again["userErrors"] == [{"code": "INVALID", "field": ["input", "token"]}]
        refused = (await api(APPROVE, admin, id=made["id"])).data["approveProvider"]["userErrors"]
        assert "lacks a payout wallet" in refused[0]["message"]
        found = (await api(HISTORY, tenant.owner, id=made["id"])).data["provider"]
        assert found["application"]["contactEmail"] == "ops@example.com"
        assert [line["event"] for line in found["history"]["nodes"]] == [
            "CONTACT_VERIFIED", "CONTACT_NAMED", "APPLIED",
        ]  # fmt: skip

    async def test_a_newer_address_voids_the_older_mail_and_five_a_day_are_enough(self, api: Api) -> None:
        tenant = await api.tenant(OrganizationKind.PROVIDER)
        made = (await register(api, tenant))["provider"]
        _, older = await deliver(api, made["id"])
        asked = {"providerId": made["id"], "email": "noc@example.com"}
        for _ in range(4):
            assert not (await api(CONTACT, tenant.owner, input=asked)).data["setProviderContact"][
                "userErrors"
            ]
        assert (await api(VERIFY, token=older)).data["verifyProviderContact"]["userErrors"]
        [error] = (await api(CONTACT, tenant.owner, input=asked)).data["setProviderContact"]["userErrors"]
        assert error["code"] == "CONFLICT"
        _, newest = await deliver(api, made["id"])
        assert not (await api(VERIFY, token=newest)).data["verifyProviderContact"]["userErrors"]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"website": "http://gpus.example.com"}, "website"),
            ({"website": "https://"}, "website"),
            ({"about": "x" * 2_001}, "about"),
            ({"contactEmail": "nobody"}, "contactEmail"),
            ({"slug": "No Slug"}, "slug"),
        ],
    )
    async def test_what_cannot_be_meant_is_refused_by_name(self, api: Api, changes, field) -> None:
        tenant = await api.tenant(OrganizationKind.PROVIDER)
        [error] = (await register(api, tenant, **changes))["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", field])

    async def test_a_customers_organization_does_not_sell(self, api: Api) -> None:
        [error] = (await register(api, await api.tenant()))["userErrors"]
        assert error["field"] == ["input", "organizationId"]

    async def test_an_organization_applies_once(self, api: Api) -> None:
        tenant = await api.tenant(OrganizationKind.PROVIDER)
        await register(api, tenant)
        [error] = (await register(api, tenant))["userErrors"]
        assert error["code"] == "CONFLICT"

    async def test_a_declined_application_says_why_and_is_over(self, api: Api) -> None:
        tenant, admin = await api.tenant(OrganizationKind.PROVIDER), await api.admin()
        made = (await register(api, tenant))["provider"]
        silent = (await api(DECLINE, admin, id=made["id"], reason=" ")).data["declineProvider"]
        assert silent["userErrors"] == [{"code": "INVALID", "field": ["input", "reason"]}]
        done = (await api(DECLINE, admin, id=made["id"], reason="no GPUs")).data["declineProvider"]
        assert done["provider"]["state"] == "CLOSED"
        [last, *_] = (await api(HISTORY, tenant.owner, id=made["id"])).data["provider"]["history"]["nodes"]
        assert (last["event"], last["reason"], last["actorKind"]) == ("DECLINED", "no GPUs", "USER")
        assert (await api(APPROVE, admin, id=made["id"])).data["approveProvider"]["userErrors"]

    async def test_administrators_find_applicants_by_state_and_name(self, api: Api, seller: Seller) -> None:
        tenant, admin = await api.tenant(OrganizationKind.PROVIDER), await api.admin()
        slug = (await register(api, tenant))["provider"]["slug"]
        for state, there in (("APPLIED", True), ("ACTIVE", False), (None, True)):
            found = (await api(LISTING, admin, state=state, search=slug[3:])).data["providers"]["nodes"]
            assert [each["slug"] for each in found] == [slug] * there
        assert (await api(LISTING, tenant.owner)).code == "FORBIDDEN"


DRAIN = """mutation ($id: ID!) { drainNode(input: {nodeId: $id, noticeSeconds: 600, reason: "disks"}) {
  node { state standing { linked drainUntil clockSkewMs clockWarning qualifiedAt }
         history(first: 1) { nodes { event reason actorKind fromState toState } } } userErrors { code } } }"""
SCHEDULE = """mutation ($input: ScheduleMaintenanceInput!) { scheduleMaintenance(input: $input) {
  window { id startsAt noticeSeconds reason state } userErrors { code field } } }"""
CANCEL = """mutation ($node: ID!, $window: ID!) { cancelMaintenance(input: {nodeId: $node, windowId: $window}) {
  window { state } userErrors { code field } } }"""
WINDOWS = """query ($id: ID!) { provider(id: $id) { nodes { nodes { maintenanceWindows { nodes { id state } } } } } }"""
NODES = """query ($provider: ID, $state: ProviderNodeState) { providerNodes(first: 50, providerId: $provider, state: $state) {
  nodes { name state standing { linked } } } }"""


def shown(node_id: UUID) -> str:
    return show(Prefix.NODE, node_id)


class TestMachines:
    async def test_a_drain_has_a_notice_a_reason_and_an_author(self, api: Api, seller: Seller) -> None:
        async with session_scope(api.services.sessions) as session:
            await link_up(session, seller.node_id, new_id())
            await keep_clock_skew(session, seller.node_id, 7_000)
        node = (await api(DRAIN, seller.tenant.owner, id=shown(seller.node_id))).data["drainNode"]["node"]
        assert node["state"] == "DRAINING"
        assert node["standing"]["linked"] is True
        assert node["standing"]["qualifiedAt"]
        left = datetime.fromisoformat(node["standing"]["drainUntil"]) - datetime.now(UTC)
        assert timedelta(seconds=500) < left < timedelta(seconds=700)
        assert node["standing"]["clockSkewMs"] == "7000"
        assert "NTP" in node["standing"]["clockWarning"]
        [line] = node["history"]["nodes"]
        assert line == {
            "event": "DRAINED", "reason": "disks", "actorKind": "USER", "fromState": "READY", "toState": "DRAINING",
        }  # fmt: skip

    async def test_a_window_is_scheduled_listed_and_cancelled(self, api: Api, seller: Seller) -> None:
        node, starts = shown(seller.node_id), datetime.now(UTC) + timedelta(hours=1)
        asked = {
            "nodeId": node,
            "startsAt": starts.isoformat(),
            "endsAt": (starts + timedelta(hours=1)).isoformat(),
            "noticeSeconds": 60,
            "reason": "power",
        }
        made = (await api(SCHEDULE, seller.tenant.owner, input=asked)).data["scheduleMaintenance"]["window"]
        assert (made["state"], made["noticeSeconds"], made["reason"]) == ("PLANNED", 60, "power")
        twice = (await api(SCHEDULE, seller.tenant.owner, input=asked)).data["scheduleMaintenance"]
        assert twice["userErrors"] == [{"code": "CONFLICT", "field": ["input", "startsAt"]}]
        [machine] = (await api(WINDOWS, seller.tenant.owner, id=seller.id)).data["provider"]["nodes"]["nodes"]
        assert machine["maintenanceWindows"]["nodes"] == [{"id": made["id"], "state": "PLANNED"}]
        done = (await api(CANCEL, seller.tenant.owner, node=node, window=made["id"])).data
        assert done["cancelMaintenance"]["window"] == {"state": "CANCELLED"}

    async def test_another_machines_window_is_not_found(self, api: Api, seller: Seller) -> None:
        other, starts = await api.seller(), datetime.now(UTC) + timedelta(hours=1)
        asked = {
            "nodeId": shown(other.node_id),
            "startsAt": starts.isoformat(),
            "endsAt": (starts + timedelta(hours=1)).isoformat(),
        }
        window = (await api(SCHEDULE, other.tenant.owner, input=asked)).data["scheduleMaintenance"]["window"]
        refused = (
            await api(CANCEL, seller.tenant.owner, node=shown(seller.node_id), window=window["id"])
        ).data["cancelMaintenance"]
        assert refused["userErrors"] == [{"code": "NOT_FOUND", "field": ["input", "windowId"]}]

    async def test_administrators_list_machines_by_state_and_provider(self, api: Api, seller: Seller) -> None:
        admin = await api.admin()
        found = (await api(NODES, admin, provider=seller.id)).data["providerNodes"]["nodes"]
        assert [(each["state"], each["standing"]["linked"]) for each in found] == [("READY", False)]
        none = (await api(NODES, admin, provider=seller.id, state="OFFLINE")).data["providerNodes"]["nodes"]
        assert none == []
        assert (await api(NODES, seller.tenant.owner)).code == "FORBIDDEN"

    async def test_a_closed_providers_machines_sell_no_more(self, api: Api, seller: Seller) -> None:
        admin = await api.admin()
        assert (await api(CLOSE, admin, id=seller.id)).data["closeProvider"]["provider"]["state"] == "CLOSED"
        assert (await api(CLOSE, admin, id=seller.id)).data["closeProvider"]["userErrors"]


class TestApproval:
    async def test_with_contact_and_wallet_an_applicant_becomes_active(self, api: Api) -> None:
        tenant, admin = await api.tenant(OrganizationKind.PROVIDER), await api.admin()
        made = (await register(api, tenant))["provider"]
        _, token = await deliver(api, made["id"])
        await api(VERIFY, token=token)
        await give_wallet(api, tenant, made["id"])
        done = (await api(APPROVE, admin, id=made["id"])).data["approveProvider"]
        assert done == {"provider": {"state": "ACTIVE"}, "userErrors": []}
