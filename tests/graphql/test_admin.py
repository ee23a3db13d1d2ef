"""Money in, and the books."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from tests.graphql.test_inference import CREATE, chat, until_settled

from raymart_core.ids import Prefix, new_id, show
from support.api_server import Api, Person, Seller, Tenant
from support.scripted_replica import ScriptedReplica

GRANT = """
mutation ($input: GrantCreditInput!) {
  grantCredit(input: $input) {
    transfer { id code state amount { amount currency } idempotencyKey debitAccountId creditAccountId }
    organization { id balance { posted { amount } pending { amount } available { amount } } }
    userErrors { code field message }
  }
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def admin(api: Api) -> Person:
    return await api.admin()


def grant(tenant: Tenant, amount: object, key: str | None = None) -> dict[str, Any]:
    return {"organizationId": tenant.id, "amount": amount, "idempotencyKey": key or new_id().hex}


class TestGrantCredit:
    async def test_balance_grows_by_the_amount(self, api: Api, admin: Person, customer: Tenant) -> None:
        data = (await api(GRANT, admin, input=grant(customer, "12.500000001"))).data["grantCredit"]
        assert data["userErrors"] == []
        assert data["transfer"]["amount"] == {"amount": "12.500000001", "currency": "USD"}
        assert (data["transfer"]["code"], data["transfer"]["state"]) == ("CREDIT_GRANT", "POSTED")
        balance = data["organization"]["balance"]
        assert balance == {
            "posted": {"amount": "12.500000001"},
            "pending": {"amount": "0.000000000"},
            "available": {"amount": "12.500000001"},
        }

    async def test_same_key_grants_once_however_often_and_at_once(
        self, api: Api, admin: Person, customer: Tenant
    ) -> None:
        given = grant(customer, "5")
        answers = await asyncio.gather(*(api(GRANT, admin, input=given) for _ in range(8)))
        assert len({answer.data["grantCredit"]["transfer"]["id"] for answer in answers}) == 1
        last = (await api(GRANT, admin, input=given)).data["grantCredit"]
        assert Decimal(last["organization"]["balance"]["posted"]["amount"]) == 5

    async def test_same_key_for_another_grant_is_a_conflict_and_grants_nothing(
        self, api: Api, admin: Person, customer: Tenant
    ) -> None:
        given = grant(customer, "5")
        await api(GRANT, admin, input=given)
        data = (await api(GRANT, admin, input=given | {"amount": "6"})).data["grantCredit"]
        assert [error["code"] for error in data["userErrors"]] == ["CONFLICT"]
        assert data["transfer"] is None
        balance = await until_settled(api, customer)
        assert balance.posted.decimal() == 5

    @pytest.mark.parametrize("amount", ["0", "-1", "0.0000000001", "1e-10", "1e30", "99999999999999999999"])
    async def test_unfit_amount_is_a_user_error(
        self, api: Api, admin: Person, customer: Tenant, amount: str
    ) -> None:
        data = (await api(GRANT, admin, input=grant(customer, amount))).data["grantCredit"]
        [error] = data["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "amount"])

    @pytest.mark.parametrize("amount", [1.5, "1,5", "", "NaN", "Infinity", "1" * 50, True, None, ["1"]])
    async def test_what_is_no_decimal_is_refused_before_anything_runs(
        self, api: Api, admin: Person, customer: Tenant, amount: object
    ) -> None:
        """A JSON float is not exact: money travels as text."""
        assert (await api(GRANT, admin, input=grant(customer, amount))).code == "BAD_USER_INPUT"

    async def test_float_literal_is_refused_too(self, api: Api, admin: Person, customer: Tenant) -> None:
        mutation = 'mutation { grantCredit(input: {organizationId: "%s", amount: 1.5, idempotencyKey: "k"}) { transfer { id } } }'
        answer = await api(mutation % customer.id, admin)
        assert answer.code == "GRAPHQL_VALIDATION_FAILED"

    @pytest.mark.parametrize("key", ["", "x" * 129])
    async def test_unfit_key_is_a_user_error(
        self, api: Api, admin: Person, customer: Tenant, key: str
    ) -> None:
        given = grant(customer, "1") | {"idempotencyKey": key}
        [error] = (await api(GRANT, admin, input=given)).data["grantCredit"]["userErrors"]
        assert error["field"] == ["input", "idempotencyKey"]

    async def test_unknown_organization_gets_nothing(self, api: Api, admin: Person, customer: Tenant) -> None:
        given = grant(customer, "1") | {"organizationId": show(Prefix.ORGANIZATION, new_id())}
        [error] = (await api(GRANT, admin, input=given)).data["grantCredit"]["userErrors"]
        assert error["code"] == "NOT_FOUND"

    async def test_failed_mutation_does_not_undo_the_one_before(
        self, api: Api, admin: Person, customer: Tenant
    ) -> None:
        """Each field is a transaction of its own and answers for itself."""
        double = GRANT.replace(
            "mutation ($input: GrantCreditInput!) {",
            "mutation ($a: GrantCreditInput!, $b: GrantCreditInput!) {",
        )
        first, second = double.partition("grantCredit(input: $input)")[::2]
        query = (
            first
            + "good: grantCredit(input: $a) { userErrors { code } } bad: grantCredit(input: $b)"
            + second
        )
        data = (await api(query, admin, a=grant(customer, "3"), b=grant(customer, "-3"))).data
        assert data["good"]["userErrors"] == []
        assert data["bad"]["userErrors"]
        assert (await until_settled(api, customer)).posted.decimal() == 3

    async def test_each_payload_shows_what_is_true_after_its_own_change(
        self, api: Api, admin: Person, customer: Tenant
    ) -> None:
        """Loaders remember what they read: the second payload must not get the first one's balance."""
        fields = "{ organization { balance { posted { amount } } } }"
        query = (
            "mutation ($a: GrantCreditInput!, $b: GrantCreditInput!) {"
            f" first: grantCredit(input: $a) {fields} second: grantCredit(input: $b) {fields} }}"
        )
        data = (await api(query, admin, a=grant(customer, "3"), b=grant(customer, "2"))).data
        balances = [
            Decimal(data[name]["organization"]["balance"]["posted"]["amount"]) for name in ("first", "second")
        ]
        assert balances == [3, 5]


class TestBooks:
    async def test_usage_moves_from_customer_to_provider_and_platform(
        self, api: Api, admin: Person, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api(GRANT, admin, input=grant(customer, "1"))
        completion = (await api(CREATE, customer.owner, input=chat(seller))).data["createChatCompletion"][
            "completion"
        ]
        await until_settled(api, customer)
        cost = Decimal(completion["cost"]["amount"])
        earnings = "query ($id: ID!) { provider(id: $id) { earnings { payable { amount } } } }"
        earned = (await api(earnings, seller.tenant.owner, id=seller.id)).data["provider"]["earnings"][
            "payable"
        ]["amount"]
        record = """query ($id: ID!) { organization(id: $id) {
          balance { posted { amount } } usageRecords { nodes { amount { amount } feeAmount { amount } postedAt } } } }"""
        organization = (await api(record, customer.owner, id=customer.id)).data["organization"]
        [usage] = organization["usageRecords"]["nodes"]
        assert (
            Decimal(usage["amount"]["amount"])
            == cost
            == Decimal(earned) + Decimal(usage["feeAmount"]["amount"])
        )
        assert Decimal(organization["balance"]["posted"]["amount"]) == 1 - cost
        assert usage["postedAt"]

    async def test_requests_of_both_surfaces_are_on_one_statement(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        _, secret = await api.api_key(customer)
        rest = await api.client.post(
            "/v1/chat/completions",
            headers={"authorization": f"Bearer {secret}"},
            json={
                "model": seller.model_slug,
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 4,
            },
        )
        assert rest.status_code == 200, rest.text
        assert (await api(CREATE, customer.owner, input=chat(seller))).data["createChatCompletion"][
            "completion"
        ]
        query = """query ($id: ID!) { organization(id: $id) { usageRecords { nodes {
          amount { amount } apiKey { name } request { id surface } } } } }"""
        records = (await api(query, customer.owner, id=customer.id)).data["organization"]["usageRecords"][
            "nodes"
        ]
        assert [record["request"]["surface"] for record in records] == ["GRAPHQL", "REST"]
        assert records[0]["amount"] == records[1]["amount"]
        assert [record["apiKey"] for record in records] == [None, {"name": "key"}]
        assert records[1]["request"]["id"] == rest.headers["x-request-id"]

    async def test_trial_balance(self, api: Api, admin: Person, customer: Tenant) -> None:
        await api(GRANT, admin, input=grant(customer, "1"))
        query = """{ trialBalance {
          balanced sum { amount } drift { amount } debits { amount } credits { amount } transferred { amount }
          drifts { accountId } unclearedAccountIds
          rows { kind accounts debits { amount } credits { amount } pending { amount } balance { amount } }
        } }"""
        found = (await api(query, admin)).data["trialBalance"]
        assert found["sum"] == {"amount": "0.000000000"}
        assert found["debits"] == found["credits"] == found["transferred"]
        rows = {row["kind"]: row for row in found["rows"]}
        assert Decimal(rows["PROMOTIONAL_CREDIT"]["balance"]["amount"]) <= -1
        assert sum(Decimal(row["balance"]["amount"]) for row in found["rows"]) == 0

    async def test_accounts_name_their_owners(
        self, api: Api, admin: Person, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api(GRANT, admin, input=grant(customer, "1"))
        await api(CREATE, customer.owner, input=chat(seller))
        await until_settled(api, customer)
        query = """{ ledgerAccounts(last: 100) { nodes {
          id kind balance { amount } organization { id } provider { slug } } } }"""
        nodes = (await api(query, admin)).data["ledgerAccounts"]["nodes"]
        by_owner = {
            (node["organization"] or {}).get("id") or (node["provider"] or {}).get("slug"): node
            for node in nodes
        }
        assert by_owner[seller.provider_slug]["kind"] == "PROVIDER_PAYABLE"
        kinds = {node["kind"] for node in nodes if node["organization"] == {"id": customer.id}}
        assert kinds == {"CUSTOMER_BALANCE", "USAGE_CLEARING"}
        again = "query ($id: ID!) { node(id: $id) { ... on LedgerAccount { kind } } }"
        account = by_owner[seller.provider_slug]
        assert (await api(again, admin, id=account["id"])).data["node"] == {"kind": "PROVIDER_PAYABLE"}
