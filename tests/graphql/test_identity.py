"""Who is asking, organizations, keys."""

import pytest

from raymart_core.clock import now
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import Role, User
from raymart_marketplace.accounts.service import add_member
from raymart_marketplace.db.session import session_scope
from support.api_server import PASSWORD, Api, Tenant

LOGIN = """
mutation ($email: String!, $password: String!) {
  login(input: {email: $email, password: $password}) {
    token expiresAt user { id email } userErrors { code field message }
  }
}
"""
VIEWER = "{ viewer { user { id email name } organizations { nodes { id kind viewerRole } } } }"


class TestLogin:
    async def test_right_password_gives_a_token_that_works(self, api: Api, customer: Tenant) -> None:
        answer = await api(LOGIN, email=customer.owner.email, password=PASSWORD)
        assert answer.data["login"]["userErrors"] == []
        viewer = await api(VIEWER, answer.data["login"]["token"])
        assert viewer.data["viewer"]["user"]["email"] == customer.owner.email
        assert viewer.data["viewer"]["user"]["id"] == show(Prefix.USER, customer.owner.user_id)

    async def test_wrong_password_is_a_user_error(self, api: Api, customer: Tenant) -> None:
        login = (await api(LOGIN, email=customer.owner.email, password="wrong")).data["login"]
        assert login["token"] is None
        assert [error["code"] for error in login["userErrors"]] == ["INVALID_CREDENTIALS"]


class TestViewer:
    async def test_organizations_are_the_viewers_own_with_the_role(self, api: Api, customer: Tenant) -> None:
        viewer = (await api(VIEWER, customer.people[Role.VIEWER])).data["viewer"]
        assert viewer["organizations"]["nodes"] == [
            {"id": customer.id, "kind": "CUSTOMER", "viewerRole": "VIEWER"}
        ]


CREATE_KEY = """
mutation ($input: CreateApiKeyInput!) {
  createApiKey(input: $input) {
    secret apiKey { id name prefix createdAt expiresAt revokedAt project { id organization { id } } }
    userErrors { code field message }
  }
}
"""
REVOKE = "mutation ($id: ID!) { revokeApiKey(input: {apiKeyId: $id}) { apiKey { revokedAt } userErrors { code } } }"
KEYS = "query ($id: ID!) { organization(id: $id) { apiKeys { nodes { id name revokedAt } } } }"


class TestApiKeys:
    async def test_key_works_and_is_shown_once(self, api: Api, customer: Tenant) -> None:
        given = {"projectId": customer.project, "name": "ci"}
        made = (await api(CREATE_KEY, customer.owner, input=given)).data["createApiKey"]
        assert made["userErrors"] == []
        secret, key = made["secret"], made["apiKey"]
        assert secret.startswith("rm_live_")
        assert secret.startswith(key["prefix"])
        assert key["project"] == {"id": customer.project, "organization": {"id": customer.id}}
        listed = await api(KEYS, customer.owner, id=customer.id)
        assert [node["name"] for node in listed.data["organization"]["apiKeys"]["nodes"]] == ["ci"]
        assert secret not in listed.response.text
        caller = await api.services.authenticator.caller(f"Bearer {secret}".encode())
        assert caller.project_id == customer.project_id

    async def test_revoked_key_is_refused_at_once(self, api: Api, customer: Tenant) -> None:
        key_id, secret = await api.api_key(customer)
        models = {"authorization": f"Bearer {secret}"}
        assert (await api.client.get("/v1/models", headers=models)).status_code == 200
        revoked = (await api(REVOKE, customer.owner, id=show(Prefix.API_KEY, key_id))).data["revokeApiKey"]
        assert revoked["userErrors"] == []
        assert revoked["apiKey"]["revokedAt"]
        chat = {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
        response = await api.client.post("/v1/chat/completions", headers=models, json=chat)
        assert response.status_code == 401
        again = (await api(REVOKE, customer.owner, id=show(Prefix.API_KEY, key_id))).data["revokeApiKey"]
        assert again == revoked

    async def test_payload_shows_what_is_true_after_the_change(self, api: Api, customer: Tenant) -> None:
        """The rule has read the key before it was revoked; the loaders must forget that."""
        key_id, _ = await api.api_key(customer)
        both = """mutation ($id: ID!) {
          first: revokeApiKey(input: {apiKeyId: $id}) { apiKey { revokedAt } }
          second: revokeApiKey(input: {apiKeyId: $id}) { apiKey { revokedAt project { slug } } }
        }"""
        data = (await api(both, customer.owner, id=show(Prefix.API_KEY, key_id))).data
        assert data["first"]["apiKey"]["revokedAt"] == data["second"]["apiKey"]["revokedAt"] is not None

    async def test_key_in_the_past_is_a_user_error_and_leaves_nothing(
        self, api: Api, customer: Tenant
    ) -> None:
        given = {"projectId": customer.project, "name": "old", "expiresAt": "2020-01-01T00:00:00Z"}
        data = (await api(CREATE_KEY, customer.owner, input=given)).data["createApiKey"]
        assert [error["field"] for error in data["userErrors"]] == [["input", "expiresAt"]]
        assert data["secret"] is None
        listed = await api(KEYS, customer.owner, id=customer.id)
        assert listed.data["organization"]["apiKeys"]["nodes"] == []

    @pytest.mark.parametrize("expires_at", ["2030-01-01T00:00:00", "tomorrow", 5, "2030-13-01T00:00:00Z"])
    async def test_time_without_a_zone_is_refused(
        self, api: Api, customer: Tenant, expires_at: object
    ) -> None:
        given = {"projectId": customer.project, "name": "k", "expiresAt": expires_at}
        assert (await api(CREATE_KEY, customer.owner, input=given)).code == "BAD_USER_INPUT"

    async def test_time_is_kept_and_shown_in_utc(self, api: Api, customer: Tenant) -> None:
        given = {"projectId": customer.project, "name": "k", "expiresAt": "2030-01-01T02:00:00+02:00"}
        made = (await api(CREATE_KEY, customer.owner, input=given)).data["createApiKey"]
        assert made["apiKey"]["expiresAt"] == "2030-01-01T00:00:00Z"


class TestDisabledUser:
    async def test_token_of_a_disabled_user_is_refused(self, api: Api, customer: Tenant) -> None:
        person = customer.people[Role.ADMIN]
        assert (await api(VIEWER, person)).data
        async with session_scope(api.services.sessions) as session:
            (await session.get_one(User, person.user_id)).disabled_at = now()
        assert (await api(VIEWER, person)).code == "UNAUTHENTICATED"

    async def test_change_of_role_counts_at_once(self, api: Api, customer: Tenant) -> None:
        person = customer.people[Role.DEVELOPER]
        given = {"projectId": customer.project, "name": "k"}
        assert (await api(CREATE_KEY, person, input=given)).data["createApiKey"]["secret"]
        async with session_scope(api.services.sessions) as session:
            await add_member(
                session,
                organization_id=customer.organization_id,
                user_id=person.user_id,
                role=Role.VIEWER,
            )
        assert (await api(CREATE_KEY, person, input=given)).code == "FORBIDDEN"
