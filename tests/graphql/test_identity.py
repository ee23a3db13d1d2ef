"""Who is asking, organizations, keys."""

from support.api_server import PASSWORD, Api, Tenant

from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import Role

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
