"""Who may do what: every operation as every kind of person, and with another tenant's ids."""

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
from raymart_graphql.permissions import MayInfer, MemberOf, MemberOfSource, Platform, Public, SignedIn
from raymart_graphql.rules import RULES
from raymart_graphql.rules.budgets import MemberOfScope
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.accounts.permissions import REACH, TABLE, Permission
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operation on the customer's or the seller's things, and who may do it."""

    query: str


KINDS = {
    "customer": OrganizationKind.CUSTOMER,
    "stranger": OrganizationKind.CUSTOMER,
    "seller": OrganizationKind.PROVIDER,
    "rival": OrganizationKind.PROVIDER,
    "platform": OrganizationKind.PLATFORM,
}
PEOPLE = frozenset(f"{tenant}.{role.value}" for tenant, kind in KINDS.items() for role in TABLE[kind])
EVERYBODY = PEOPLE | {"key", "nobody"}
CHAT = '{projectId: "%(project)s", model: "%(model)s", messages: [{role: USER, content: "hi"}]}'
CASES = {
    "Query.node": Case(query='{ node(id: "%(model_id)s") { id } }'),
    "Query.nodes": Case(query='{ nodes(ids: ["%(model_id)s"]) { id } }'),
    "Query.viewer": Case(query="{ viewer { user { id } } }"),
    "Query.organization": Case(query='{ organization(id: "%(organization)s") { id } }'),
    "Query.models": Case(query="{ models(first: 1) { nodes { id } } }"),
    "Query.model": Case(query='{ model(slug: "%(model)s") { id } }'),
    "Query.provider": Case(query='{ provider(id: "%(provider)s") { slug } }'),
    "Query.ledgerAccounts": Case(query="{ ledgerAccounts(first: 1) { nodes { id } } }"),
    "Query.trialBalance": Case(query="{ trialBalance { balanced } }"),
    "Query.offers": Case(query="{ offers(first: 1) { nodes { live } } }"),
    "Query.offerSearch": Case(query="{ offerSearch { considered } }"),
    "Query.explainRoute": Case(
        query='{ explainRoute(input: {model: "%(model)s", tokensPromptMax: 1}) { modelSlug } }'
    ),
    "Mutation.login": Case(
        query='mutation { login(input: {email: "nobody@example.com", password: "x"}) { token } }'
    ),
    "Mutation.createApiKey": Case(
        query='mutation { createApiKey(input: {projectId: "%(project)s", name: "k"}) { secret } }'
    ),
    "Mutation.revokeApiKey": Case(
        query='mutation { revokeApiKey(input: {apiKeyId: "%(key)s"}) { apiKey { id } } }'
    ),
    "Mutation.createChatCompletion": Case(
        query="mutation { createChatCompletion(input: " + CHAT + ") { userErrors { code } } }"
    ),
    "Mutation.createJoinToken": Case(
        query='mutation { createJoinToken(input: {providerId: "%(provider)s", poolId: "%(pool)s"}) { token } }'
    ),
    "Mutation.setOfferAsks": Case(
        query='mutation { setOfferAsks(input: {offerId: "%(offer)s", prompt: "0", completion: "0"}) { offer { id } } }'
    ),
    "Mutation.grantCredit": Case(
        query='mutation { grantCredit(input: {organizationId: "%(organization)s", amount: "1", idempotencyKey: "%(unique)s"})'
        " { transfer { id } } }"
    ),
    "Mutation.setBudget": Case(
        query='mutation { setBudget(input: {scopeId: "%(organization)s", period: MONTHLY, limit: "1000"})'
        " { budget { period } userErrors { code } } }"
    ),
    "Mutation.removeBudget": Case(
        query='mutation { removeBudget(input: {scopeId: "%(key)s", period: LIFETIME}) { removed } }'
    ),
    "Query.ledgerSnapshots": Case(query="{ ledgerSnapshots(first: 1) { nodes { day } } }"),
    "Query.ledgerHealth": Case(query="{ ledgerHealth { sound } }"),
    "Mutation.reverseTransfers": Case(
        query='mutation { reverseTransfers(input: {transferIds: ["tr_0000000000000000000000000000ffff"], reason: "x"})'
        " { userErrors { code } } }"
    ),
    "Query.invoices": Case(query="{ invoices(first: 1) { nodes { id } } }"),
    "Query.refunds": Case(query="{ refunds(first: 1) { nodes { id } } }"),
    "Mutation.setBillingProfile": Case(
        query='mutation { setBillingProfile(input: {organizationId: "%(organization)s", legalName: "A", address: "B",'
        ' country: "AT", email: "a@example.com"}) { billingProfile { legalName } } }'
    ),
    "Mutation.draftInvoice": Case(
        query='mutation { draftInvoice(input: {organizationId: "%(organization)s", periodStart: "2026-01-01"})'
        " { invoice { id } } }"
    ),
    "Mutation.finalizeInvoice": Case(
        query='mutation { finalizeInvoice(input: {invoiceId: "%(invoice)s"}) { userErrors { code } } }'
    ),
    "Mutation.voidInvoice": Case(
        query='mutation { voidInvoice(input: {invoiceId: "%(invoice)s", reason: "r"}) { userErrors { code } } }'
    ),
    "Mutation.createCreditNote": Case(
        query='mutation { createCreditNote(input: {invoiceId: "%(invoice)s", reason: "r",'
        ' lines: [{description: "d", amount: "1"}]}) { userErrors { code } } }'
    ),
    "Mutation.issueCreditNote": Case(
        query='mutation { issueCreditNote(input: {creditNoteId: "%(credit_note)s"}) { userErrors { code } } }'
    ),
    "Mutation.voidCreditNote": Case(
        query='mutation { voidCreditNote(input: {creditNoteId: "%(credit_note)s"}) { userErrors { code } } }'
    ),
    "Mutation.refundRequest": Case(
        query='mutation { refundRequest(input: {requestId: "%(request)s", reason: "r", idempotencyKey: "%(unique)s"})'
        " { userErrors { code } } }"
    ),
    "Query.disputes": Case(query="{ disputes(first: 1) { nodes { id } } }"),
    "Query.heldDeposits": Case(query="{ heldDeposits(first: 1) { nodes { id } } }"),
    "Query.stripeEventsInReview": Case(query="{ stripeEventsInReview(first: 1) { nodes { eventId } } }"),
    "Mutation.createDeposit": Case(
        query='mutation { createDeposit(input: {organizationId: "%(organization)s", amount: "10", idempotencyKey: "%(unique)s"})'
        " { deposit { id } userErrors { code } } }"
    ),
    "Mutation.setLowBalanceThreshold": Case(
        query='mutation { setLowBalanceThreshold(input: {organizationId: "%(organization)s", threshold: "3"})'
        " { organization { id } } }"
    ),
    "Mutation.refundDeposit": Case(
        query='mutation { refundDeposit(input: {depositId: "dep_%(unique)s", amount: "1", reason: "r", idempotencyKey: "k"})'
        " { deposit { id } userErrors { code } } }"
    ),
    "Mutation.creditHeldDeposit": Case(
        query='mutation { creditHeldDeposit(input: {depositId: "dep_%(unique)s", reason: "r"})'
        " { deposit { id } userErrors { code } } }"
    ),
    "Mutation.resolveStripeEvent": Case(
        query='mutation { resolveStripeEvent(input: {eventId: "evt_%(unique)s", reason: "r"}) { userErrors { code } } }'
    ),
    "Mutation.adjustBalance": Case(
        query='mutation { adjustBalance(input: {organizationId: "%(organization)s", amount: "1", reason: "r",'
        ' idempotencyKey: "%(unique)s"}) { organization { id } } }'
    ),
    "Mutation.blockCustomer": Case(
        query='mutation { blockCustomer(input: {organizationId: "%(organization)s", reason: "r"}) { organization { id } } }'
    ),
    "Mutation.unblockCustomer": Case(
        query='mutation { unblockCustomer(input: {organizationId: "%(organization)s", reason: "r"})'
        " { organization { id } userErrors { code } } }"
    ),
    "Query.outboxItems": Case(query="{ outboxItems(first: 1) { nodes { id } } }"),
    "Query.taskRuns": Case(query="{ taskRuns(first: 1) { nodes { id } } }"),
    "Query.periodicJobs": Case(query="{ periodicJobs(first: 1) { nodes { name } } }"),
    "Mutation.retryWork": Case(
        query='mutation { retryWork(input: {id: "work_%(unique)s", reason: "r"}) { userErrors { code } } }'
    ),
    "Mutation.cancelWork": Case(
        query='mutation { cancelWork(input: {id: "work_%(unique)s", reason: "r"}) { userErrors { code } } }'
    ),
    "Query.priceCaps": Case(query="{ priceCaps(first: 1) { nodes { reason } } }"),
    "Query.feeSchedules": Case(query="{ feeSchedules(first: 1) { nodes { version } } }"),
    "Query.quoteRequest": Case(
        query='{ quoteRequest(model: "%(model)s", tokensPromptMax: 1, tokensCompletionMax: 1) { modelSlug } }'
    ),
    "Mutation.publishRateCard": Case(
        query='mutation { publishRateCard(input: {modelId: "%(model_id)s", prices: [{unit: REQUEST, price: "0"}]})'
        " { rateCard { version } } }"
    ),
    "Mutation.retireRateCard": Case(
        query='mutation { retireRateCard(input: {modelId: "%(model_id)s", version: 9}) { userErrors { code } } }'
    ),
    "Mutation.setPriceCap": Case(
        query='mutation { setPriceCap(input: {modelId: "%(model_id)s", unit: REQUEST, max: "1", reason: "t"})'
        " { priceCap { reason } } }"
    ),
    "Mutation.setFeeSchedule": Case(
        query='mutation { setFeeSchedule(input: {modelId: "%(model_id)s", basisPoints: 1, reason: "t"})'
        " { feeSchedule { version } } }"
    ),
    "Mutation.setOfferWindows": Case(
        query='mutation { setOfferWindows(input: {offerId: "%(offer)s", windows: []}) { offer { id } } }'
    ),
    "Mutation.setOfferFloor": Case(
        query='mutation { setOfferFloor(input: {offerId: "%(offer)s", floors: []}) { offer { id } } }'
    ),
    "Offer.floors": Case(query='{ node(id: "%(offer)s") { ... on Offer { floors { unit } } } }'),
    "Offer.unsellableReason": Case(query='{ node(id: "%(offer)s") { ... on Offer { unsellableReason } } }'),
    "Provider.nodes": Case(query='{ provider(id: "%(provider)s") { nodes { nodes { name } } } }'),
    "Provider.pools": Case(query='{ provider(id: "%(provider)s") { pools { nodes { slug } } } }'),
    "Provider.earningsByDay": Case(
        query='{ provider(id: "%(provider)s") { earningsByDay(since: "2026-01-01", until: "2026-01-02") { requests } } }'
    ),
    "Query.marketUsageByDay": Case(
        query='{ marketUsageByDay(since: "2026-01-01", until: "2026-01-02") { startsAt } }'
    ),
    "Query.marketUsageSummary": Case(query='{ marketUsageSummary(month: "2026-01-01") { month } }'),
    "Provider.earnings": Case(query='{ provider(id: "%(provider)s") { earnings { payable { amount } } } }'),
}


def names(world: World) -> dict[str, str]:
    return {
        "organization": world.customer.id,
        "project": world.customer.project,
        "key": world.api_key_id,
        "model": world.seller.model_slug,
        "model_id": show(Prefix.MODEL, world.seller.model_id),
        "provider": world.seller.id,
        "pool": show(Prefix.POOL, world.seller.pool_id),
        "offer": show(Prefix.OFFER, world.seller.offer_id),
        "invoice": show(Prefix.INVOICE, new_id()),
        "credit_note": show(Prefix.CREDIT_NOTE, new_id()),
        "request": show(Prefix.REQUEST, new_id()),
        "unique": new_id().hex,
    }


def refused(answer: Answer) -> str | None:
    """The code with which a request was refused, if it was."""
    codes = {error["extensions"]["code"] for error in answer.errors}
    assert codes <= {"UNAUTHENTICATED", "FORBIDDEN"}, answer.body
    assert len(codes) <= 1
    return next(iter(codes), None)


def holders(tenant: str, permission: Permission) -> frozenset[str]:
    """Who has `permission` over what is `tenant`'s, by the table."""
    own = {role for role, granted in TABLE[KINDS[tenant]].items() if permission in granted}
    reaching = {role for role, granted in REACH.items() if permission in granted}
    return frozenset(
        {f"{tenant}.{role.value}" for role in own} | {f"platform.{role.value}" for role in reaching}
    )


def allowed(name: str) -> frozenset[str]:
    """Who may do the operation on the customer's or the seller's things; everybody else is refused."""
    rule, query = RULES[name], CASES[name].query
    tenant = "seller" if "%(offer)s" in query or "%(provider)s" in query else "customer"
    match rule:
        case Public():
            return EVERYBODY
        case SignedIn():
            return PEOPLE
        case Platform(permission=permission):
            return frozenset(
                f"platform.{role.value}"
                for role, granted in TABLE[OrganizationKind.PLATFORM].items()
                if permission in granted
            )
        case MemberOf() | MemberOfSource() | MemberOfScope() | MayInfer():
            return holders(tenant, rule.permission)
    raise AssertionError(f"say who may do {name}, whose rule is {rule}")


class TestMatrix:
    def test_every_rule_has_a_case(self) -> None:
        """Subscriptions are refused at the socket; see test_subscription.py."""
        fields = {name for name in RULES if name.startswith("Organization.")}
        assert set(CASES) == set(RULES) - {"Subscription.chatCompletion"} - fields

    @pytest.mark.parametrize("name", sorted(CASES))
    async def test_exactly_those_who_may(self, world: World, name: str) -> None:
        case = CASES[name]
        for who in sorted(EVERYBODY):
            answer = await world.api(case.query % names(world), world.credential(who))
            expected = None
            if who not in allowed(name):
                expected = "UNAUTHENTICATED" if who == "nobody" else "FORBIDDEN"
            assert refused(answer) == expected, f"{name} as {who}: {answer.body}"

    async def test_fields_of_an_organization_are_for_the_roles_that_have_their_permission(
        self, world: World
    ) -> None:
        arguments = {
            "usageByDay": '(since: "2026-01-01", until: "2026-01-02") { startsAt }',
            "usageByHour": '(since: "2026-01-01T00:00:00Z", until: "2026-01-01T01:00:00Z") { startsAt }',
            "usageSummary": '(month: "2026-01-01") { month }',
            "billingProfile": "{ legalName }",
        }
        fields = {name: rule for name, rule in RULES.items() if name.startswith("Organization.")}
        for name, rule in fields.items():
            assert isinstance(rule, MemberOfSource)
            field = name.partition(".")[2]
            shown = arguments.get(field, "(first: 1) { pageInfo { hasNextPage } }")
            query = f"query ($id: ID!) {{ organization(id: $id) {{ {field} {shown} }} }}"
            seeing = holders("customer", Permission.ORGANIZATION_READ)
            for who in sorted(PEOPLE):
                answer = await world.api(query, world.credential(who), id=world.customer.id)
                if who not in seeing:
                    assert answer.data == {"organization": None}, who
                elif who in holders("customer", rule.permission):
                    assert refused(answer) is None, f"{name} as {who}"
                else:
                    assert refused(answer) == "FORBIDDEN", f"{name} as {who}"

    async def test_key_may_infer_for_its_own_project_only(self, world: World) -> None:
        mutation = "mutation ($input: CreateChatCompletionInput!) { createChatCompletion(input: $input) { userErrors { code } } }"
        chat = {"model": world.seller.model_slug, "messages": [{"role": "USER", "content": "hi"}]}
        allowed = await world.api(mutation, world.api_key, input=chat)
        assert [error["code"] for error in allowed.data["createChatCompletion"]["userErrors"]] == [
            "NO_ENDPOINT"
        ]
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
