"""Members that are no people: made, given keys, bounded by their role, disabled."""

from typing import Any

import pytest
from sqlalchemy import update

from raymart_core.ids import Prefix, new_id, parse, show
from raymart_marketplace.accounts.models import OrganizationKind, Role, ServiceAccount
from raymart_marketplace.accounts.permissions import TABLE
from raymart_marketplace.accounts.scopes import ALL_SCOPES, KeyScope
from raymart_marketplace.accounts.service_accounts import scopes_within
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Person, Tenant

CREATE = """mutation ($input: CreateServiceAccountInput!) {
  createServiceAccount(input: $input) { serviceAccount { id name role disabledAt } userErrors { code field } }
}"""
DISABLE = """mutation ($id: ID!) {
  disableServiceAccount(input: {serviceAccountId: $id}) { serviceAccount { disabledAt } userErrors { code } }
}"""
KEY = "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { secret userErrors { code field } } }"
LIST = """query ($id: ID!) {
  organization(id: $id) { serviceAccounts { nodes { id name apiKeys { nodes { name } } } } }
}"""


async def create(api: Api, tenant: Tenant, person: Person | None = None, **given: Any) -> dict[str, Any]:
    asked = {"organizationId": tenant.id, "name": "robot", "role": "DEVELOPER", **given}
    return (await api(CREATE, person or tenant.owner, input=asked)).data["createServiceAccount"]


async def account_of(api: Api, tenant: Tenant, role: str = "DEVELOPER") -> str:
    made = await create(api, tenant, role=role)
    assert made["userErrors"] == []
    return made["serviceAccount"]["id"]


async def key(api: Api, tenant: Tenant, account: str, **given: Any) -> dict[str, Any]:
    asked = {"projectId": tenant.project, "name": "k", "serviceAccountId": account, **given}
    return (await api(KEY, tenant.owner, input=asked)).data["createApiKey"]


async def status(api: Api, secret: str) -> int:
    return (await api.client.get("/v1/models", headers={"authorization": f"Bearer {secret}"})).status_code


class TestAccounts:
    async def test_account_is_made_and_listed_with_its_keys(self, api: Api, customer: Tenant):
        account = await account_of(api, customer)
        assert (await key(api, customer, account))["userErrors"] == []
        listed = (await api(LIST, customer.owner, id=customer.id)).data["organization"]["serviceAccounts"][
            "nodes"
        ]
        assert listed == [{"id": account, "name": "robot", "apiKeys": {"nodes": [{"name": "k"}]}}]

    async def test_disabling_ends_all_its_keys_at_once_and_no_other(self, api: Api, customer: Tenant):
        account, other = await account_of(api, customer), await account_of(api, customer)
        secrets = [(await key(api, customer, account))["secret"] for _ in range(2)]
        kept = (await key(api, customer, other))["secret"]
        assert [await status(api, secret) for secret in (*secrets, kept)] == [200, 200, 200]
        assert (await api(DISABLE, customer.owner, id=account)).data["disableServiceAccount"][
            "userErrors"
        ] == []
        assert [await status(api, secret) for secret in (*secrets, kept)] == [401, 401, 200]
        refused = await key(api, customer, account)
        assert [error["code"] for error in refused["userErrors"]] == ["CONFLICT"]

    async def test_nobody_makes_one_with_more_than_they_may_give(self, api: Api, customer: Tenant):
        owner = await create(api, customer, role="OWNER")
        assert owner["userErrors"] == [{"code": "INVALID", "field": ["input", "role"]}]
        foreign = await create(api, customer, role="OPERATOR")
        assert foreign["userErrors"] == [{"code": "INVALID", "field": ["input", "role"]}]
        asked = {"organizationId": customer.id, "name": "robot", "role": "VIEWER"}
        assert (await api(CREATE, customer.people[Role.DEVELOPER], input=asked)).code == "FORBIDDEN"

    async def test_another_organizations_account_gets_no_key_here(
        self, api: Api, customer: Tenant, stranger: Tenant
    ):
        for account in (await account_of(api, stranger), show(Prefix.SERVICE_ACCOUNT, new_id())):
            refused = await key(api, customer, account)
            assert refused["userErrors"] == [{"code": "NOT_FOUND", "field": ["input", "serviceAccountId"]}]


class TestRole:
    async def test_key_asks_for_no_more_than_the_role_allows(self, api: Api, customer: Tenant):
        account = await account_of(api, customer, "VIEWER")
        refused = await key(api, customer, account)
        assert refused["userErrors"] == [{"code": "INVALID", "field": ["input", "scopes"]}]
        assert (await key(api, customer, account, scopes=["MODELS_READ", "USAGE_READ"]))["userErrors"] == []

    async def test_role_that_shrinks_takes_its_keys_along(self, api: Api, customer: Tenant):
        account = await account_of(api, customer)
        secret = (await key(api, customer, account))["secret"]
        async with session_scope(api.services.sessions) as session:
            await session.execute(
                update(ServiceAccount)
                .where(ServiceAccount.id == parse(Prefix.SERVICE_ACCOUNT, account))
                .values(role=Role.BILLING)
            )
        caller = await api.services.authenticator.caller(f"Bearer {secret}".encode())
        assert caller.scopes == {KeyScope.MODELS_READ}  # Asking models is not for billing.

    @pytest.mark.parametrize("kind", OrganizationKind)
    def test_scopes_follow_the_table_of_permissions(self, kind: OrganizationKind):
        assert scopes_within(kind, Role.ADMIN) == ALL_SCOPES
        for role in TABLE[kind]:
            assert KeyScope.MODELS_READ in scopes_within(kind, role)
        assert scopes_within(OrganizationKind.CUSTOMER, Role.BILLING) == {
            KeyScope.MODELS_READ,
            KeyScope.USAGE_READ,
        }
