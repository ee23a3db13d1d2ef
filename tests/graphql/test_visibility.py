"""What is visible to whom: credentials, `node(id)`, lists. Who may do which operation: test_permissions.py."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from raymart_billing.alerts import Alert, AlertKind
from raymart_billing.credits import grant
from raymart_billing.deposits import Deposit, DepositRail, DepositState, Dispute, DisputeStage
from raymart_core.ids import Prefix, new_id, show
from raymart_core.money import Money
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.db.session import session_scope
from support.api_server import Answer, Api, Seller, Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Two customers, two providers, the platform's people, and a key."""

    api: Api
    customer: Tenant
    stranger: Tenant
    seller: Seller
    rival: Seller
    platform: Tenant
    api_key: str
    api_key_id: str

    def credential(self, who: str) -> str | None:
        """The bearer credential of somebody named "<tenant>.<role>", "key" or "nobody"."""
        if who == "nobody":
            return None
        if who == "key":
            return self.api_key
        tenants = {
            "customer": self.customer,
            "stranger": self.stranger,
            "seller": self.seller.tenant,
            "rival": self.rival.tenant,
            "platform": self.platform,
        }
        tenant, _, role = who.partition(".")
        return tenants[tenant].people[Role(role)].token


@dataclass(frozen=True, slots=True, kw_only=True)
class Bystanders:
    """People of other tenants, and the platform's. They try everything and nothing of theirs is changed by it."""

    stranger: Tenant
    rival: Seller
    platform: Tenant


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bystanders(api: Api) -> Bystanders:
    return Bystanders(
        stranger=await api.tenant(),
        rival=await api.seller(),
        platform=await api.tenant(OrganizationKind.PLATFORM),
    )


@pytest_asyncio.fixture(loop_scope="session")
async def world(api: Api, customer: Tenant, seller: Seller, bystanders: Bystanders) -> World:
    _, secret = await api.api_key(customer)
    key_id, _ = await api.api_key(customer)
    return World(
        api=api,
        customer=customer,
        stranger=bystanders.stranger,
        seller=seller,
        rival=bystanders.rival,
        platform=bystanders.platform,
        api_key=secret,
        api_key_id=show(Prefix.API_KEY, key_id),
    )


def refused(answer: Answer) -> str | None:
    """The code with which a request was refused, if it was."""
    codes = {error["extensions"]["code"] for error in answer.errors}
    assert codes <= {"UNAUTHENTICATED", "FORBIDDEN"}, answer.body
    assert len(codes) <= 1
    return next(iter(codes), None)


class TestKeys:
    async def test_key_may_infer_for_its_own_project_only(self, world: World) -> None:
        mutation = "mutation ($input: CreateChatCompletionInput!) { createChatCompletion(input: $input) { userErrors { code } } }"
        chat = {"model": world.seller.model_slug, "messages": [{"role": "USER", "content": "hi"}]}
        allowed = await world.api(mutation, world.api_key, input=chat)
        # Past the rule: nobody serves the model, which the gateway may not even know yet.
        [error] = allowed.data["createChatCompletion"]["userErrors"]
        assert error["code"] in {"NO_ENDPOINT", "MODEL_NOT_FOUND"}
        for project in (world.customer.project, world.stranger.project):
            answer = await world.api(mutation, world.api_key, input=chat | {"projectId": project})
            assert refused(answer) == "FORBIDDEN"


class TestCredentials:
    @pytest.mark.parametrize("credential", ["rm_live_" + "x" * 43, "not a token", "a.b.c", "é"])
    async def test_wrong_credentials_are_told_even_where_none_are_needed_for_data(
        self, api: Api, credential: str
    ) -> None:
        response = await api.client.post(
            "/graphql",
            json={"query": "{ viewer { user { id } } }"},
            headers={"authorization": f"Bearer {credential}".encode()},
        )
        assert Answer(response).code == "UNAUTHENTICATED"

    async def test_stale_token_does_not_keep_from_logging_in(self, api: Api, customer: Tenant) -> None:
        login = 'mutation ($e: String!) { login(input: {email: $e, password: "x"}) { userErrors { code } } }'
        answer = await api(login, "stale", e=customer.owner.email)
        assert answer.data["login"]["userErrors"] == [{"code": "INVALID_CREDENTIALS"}]


OWNED = {
    "user": ("customer.owner", "user"),
    "organization": ("customer.viewer", "org"),
    "project": ("customer.viewer", "proj"),
    "api_key": ("customer.viewer", "key"),
    "request": ("customer.viewer", "req"),
    "usage_record": ("customer.viewer", "use"),
    "node": ("seller.viewer", "node"),
    "pool": ("seller.viewer", "pool"),
    "ledger_account": ("platform.owner", "acct"),
    "deposit": ("customer.viewer", "dep"),
    "dispute": ("customer.viewer", "dsp"),
    "credit_grant": ("customer.viewer", "grant"),
    "alert": ("customer.viewer", "alert"),
}


async def money_of(world: World) -> dict[str, str]:
    """A deposit, a dispute, a grant and an alert of the customer's, by their global ids."""
    owner = world.customer.organization_id
    deposit = Deposit(
        id=new_id(),
        organization_id=owner,
        rail=DepositRail.CARD,
        state=DepositState.CREATED,
        amount_nano_usd=10**10,
        idempotency_key=new_id().hex,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )
    dispute = Dispute(
        id=new_id(),
        provider_id=f"du_{new_id().hex}",
        payment_id="pi_1",
        charge_id="ch_1",
        amount=100,
        currency="usd",
        status="needs_response",
        stage=DisputeStage.OPEN,
        reason="fraudulent",
        organization_id=owner,
    )
    alert = Alert(
        id=new_id(),
        organization_id=owner,
        kind=AlertKind.LOW_BALANCE,
        subject=new_id().hex,
        threshold_nano_usd=2,
        value_nano_usd=1,
    )
    async with session_scope(world.api.services.sessions) as session:
        session.add_all([deposit, dispute, alert])
        given = await grant(session, organization_id=owner, amount=Money(1), key=new_id().hex, actor_id=None)
    return {
        "deposit": show(Prefix.DEPOSIT, deposit.id),
        "dispute": show(Prefix.DISPUTE, dispute.id),
        "credit_grant": show(Prefix.CREDIT_GRANT, given.id),
        "alert": show(Prefix.ALERT, alert.id),
    }


class TestNodes:
    """`node(id)` is a way into everything: another tenant's ids are as if they did not exist."""

    @pytest_asyncio.fixture(loop_scope="session")
    async def ids(self, world: World) -> dict[str, str]:
        [request_id] = await world.api.use(world.customer, world.seller, 1)
        await world.api.credit(world.customer)
        accounts = await world.api(
            "{ ledgerAccounts(last: 1) { nodes { id } } }", world.credential("platform.owner")
        )
        return {
            "user": show(Prefix.USER, world.customer.owner.user_id),
            "organization": world.customer.id,
            "project": world.customer.project,
            "api_key": world.api_key_id,
            "request": show(Prefix.REQUEST, request_id),
            "usage_record": show(Prefix.USAGE_RECORD, request_id),
            "node": show(Prefix.NODE, world.seller.node_id),
            "pool": show(Prefix.POOL, world.seller.pool_id),
            "ledger_account": accounts.data["ledgerAccounts"]["nodes"][0]["id"],
            **await money_of(world),
        }

    @pytest.mark.parametrize("kind", sorted(OWNED))
    async def test_owners_and_administrators_see_it_and_nobody_else(
        self, world: World, ids: dict[str, str], kind: str
    ) -> None:
        insider, prefix = OWNED[kind]
        item_id = ids[kind]
        assert item_id.startswith(prefix + "_")
        query = "query ($id: ID!) { node(id: $id) { __typename id } nodes(ids: [$id]) { id } }"
        for who in (insider, "platform.owner"):
            data = (await world.api(query, world.credential(who), id=item_id)).data
            assert data["node"]["id"] == item_id, who
            assert data["nodes"] == [{"id": item_id}]
        for who in ("nobody", "key", "stranger.owner", "rival.owner", "platform.support"):
            data = (await world.api(query, world.credential(who), id=item_id)).data
            assert data == {"node": None, "nodes": [None]}, who

    async def test_organization_by_id_is_null_for_strangers(self, world: World) -> None:
        query = "query ($id: ID!) { organization(id: $id) { balance { available { amount } } } }"
        for who in ("stranger.owner", "seller.owner", "platform.support"):
            data = (await world.api(query, world.credential(who), id=world.customer.id)).data
            assert data == {"organization": None}, who
        for who in ("customer.viewer", "platform.admin"):
            assert (await world.api(query, world.credential(who), id=world.customer.id)).data["organization"]

    async def test_missing_and_foreign_things_cannot_be_told_apart(self, world: World) -> None:
        mutation = 'mutation ($id: ID!) { createApiKey(input: {projectId: $id, name: "k"}) { secret } }'
        messages = set()
        for item_id in (world.stranger.project, show(Prefix.PROJECT, new_id())):
            answer = await world.api(mutation, world.credential("customer.owner"), id=item_id)
            assert answer.code == "FORBIDDEN"
            messages.add(answer.errors[0]["message"].replace(item_id, "ID"))
        assert len(messages) == 1

    @pytest.mark.parametrize(
        "text",
        ["", "org", "org_", "org_xyz", "proj_" + "0" * 31, "join_" + "0" * 32, "T3JnOjE=", "5", "x" * 5_000],
    )
    async def test_text_that_is_no_id_is_the_clients_mistake(self, world: World, text: str) -> None:
        answer = await world.api("query ($id: ID!) { node(id: $id) { id } }", id=text)
        assert answer.code == "BAD_USER_INPUT"


class TestOtherTenantsUsage:
    async def test_customer_sees_only_its_own(self, world: World) -> None:
        await world.api.use(world.stranger, world.seller, 3)
        await world.api.use(world.customer, world.seller, 2)
        query = "{ viewer { organizations { nodes { id usageRecords { nodes { id } } } } } }"
        viewer: dict[str, Any] = (await world.api(query, world.credential("customer.owner"))).data["viewer"]
        [organization] = viewer["organizations"]["nodes"]
        assert organization["id"] == world.customer.id
        assert len(organization["usageRecords"]["nodes"]) == 2
