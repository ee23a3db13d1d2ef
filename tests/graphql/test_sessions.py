"""Logging in, refreshing, listing and ending sessions, as clients see it."""

from typing import Any

import pytest_asyncio

from raymart_core.ids import new_id
from support.api_server import PASSWORD, Answer, Api, Tenant

TOKENS = "token expiresAt refreshToken refreshExpiresAt session { id userAgent address method } userErrors { code message field }"
LOGIN = f"mutation ($email: String!, $password: String!) {{ login(input: {{email: $email, password: $password}}) {{ {TOKENS} }} }}"
REFRESH = f"mutation ($token: String!) {{ refreshSession(input: {{refreshToken: $token}}) {{ {TOKENS} }} }}"
SESSIONS = "{ viewer { sessions { nodes { id isCurrent revokedAt } } } }"
REVOKE = "mutation ($id: ID!) { revokeSession(input: {sessionId: $id}) { session { id revokedWhy } userErrors { code } } }"
OTHERS = "mutation { revokeOtherSessions(input: {}) { revoked userErrors { code } } }"
LOGOUT = "mutation ($all: Boolean!) { logout(input: {everywhere: $all}) { session { revokedWhy } userErrors { code } } }"
VIEWER = "{ viewer { user { id } } }"


class Browser:
    """Somebody's browser: keeps its tokens."""

    def __init__(self, api: Api, email: str) -> None:
        self.api = api
        self.email = email
        self.kept: dict[str, Any] = {}

    async def log_in(self) -> "Browser":
        answer = await self.api(
            LOGIN, headers={"user-agent": "a browser"}, email=self.email, password=PASSWORD
        )
        self.kept = answer.data["login"]
        assert self.kept["userErrors"] == []
        return self

    @property
    def session_id(self) -> str:
        session_id: str = self.kept["session"]["id"]
        return session_id

    async def ask(self, query: str, **variables: Any) -> Answer:
        return await self.api(query, self.kept["token"], **variables)

    async def refresh(self) -> dict[str, Any]:
        answer = await self.api(REFRESH, token=self.kept["refreshToken"])
        refreshed: dict[str, Any] = answer.data["refreshSession"]
        if not refreshed["userErrors"]:
            self.kept = refreshed
        return refreshed


@pytest_asyncio.fixture(loop_scope="session")
async def browser(api: Api, customer: Tenant) -> Browser:
    return await Browser(api, customer.owner.email).log_in()


class TestLogin:
    async def test_session_shows_the_device(self, browser: Browser) -> None:
        shown = browser.kept["session"]
        assert shown["userAgent"] == "a browser"
        assert shown["address"] == "127.0.0.1"
        assert shown["method"] == "PASSWORD"
        assert browser.kept["expiresAt"] < browser.kept["refreshExpiresAt"]


class TestRefresh:
    async def test_session_goes_on_with_new_tokens(self, browser: Browser) -> None:
        before = browser.kept
        await browser.refresh()
        assert browser.kept["refreshToken"] != before["refreshToken"]
        assert browser.kept["session"]["id"] == before["session"]["id"]
        assert (await browser.ask(VIEWER)).data["viewer"]

    async def test_reuse_ends_the_sessions_access_tokens_at_once(self, browser: Browser) -> None:
        stolen = browser.kept["refreshToken"]
        await browser.refresh()
        await browser.refresh()
        assert (await browser.ask(VIEWER)).data
        answer = await browser.api(REFRESH, token=stolen)
        [error] = answer.data["refreshSession"]["userErrors"]
        assert error["code"] == "INVALID_CREDENTIALS"
        assert error["field"] == ["input", "refreshToken"]
        assert "used before" in error["message"]
        assert (await browser.ask(VIEWER)).code == "UNAUTHENTICATED"
        assert (await browser.refresh())["userErrors"]

    async def test_unknown_token_is_a_user_error(self, api: Api) -> None:
        for token in ("", "rmr_" + "a" * 43):
            refused = (await api(REFRESH, token=token)).data["refreshSession"]
            assert [error["code"] for error in refused["userErrors"]] == ["INVALID_CREDENTIALS"]
            assert refused["token"] is None

    async def test_access_token_is_no_refresh_token(self, browser: Browser) -> None:
        refused = await browser.api(REFRESH, token=browser.kept["token"])
        assert refused.data["refreshSession"]["userErrors"]

    async def test_refresh_token_is_no_access_token(self, browser: Browser) -> None:
        assert (await browser.api(VIEWER, browser.kept["refreshToken"])).code == "UNAUTHENTICATED"


class TestSessions:
    async def test_own_open_sessions_are_listed_and_the_current_one_is_marked(
        self, browser: Browser, stranger: Tenant
    ) -> None:
        other = await Browser(browser.api, browser.email).log_in()
        await Browser(browser.api, stranger.owner.email).log_in()
        nodes = (await other.ask(SESSIONS)).data["viewer"]["sessions"]["nodes"]
        assert [(node["id"], node["isCurrent"]) for node in nodes] == [
            (other.session_id, True),
            (browser.session_id, False),
        ]

    async def test_revoked_session_is_out_at_once_and_listed_no_more(self, browser: Browser) -> None:
        other = await Browser(browser.api, browser.email).log_in()
        assert (await browser.ask(VIEWER)).data
        revoked = (await other.ask(REVOKE, id=browser.session_id)).data["revokeSession"]
        assert revoked == {"session": {"id": browser.session_id, "revokedWhy": "REVOKED"}, "userErrors": []}
        assert (await browser.ask(VIEWER)).code == "UNAUTHENTICATED"
        assert (await browser.refresh())["userErrors"]
        nodes = (await other.ask(SESSIONS)).data["viewer"]["sessions"]["nodes"]
        assert [node["id"] for node in nodes] == [other.session_id]

    async def test_strangers_session_cannot_be_ended_or_seen(
        self, browser: Browser, stranger: Tenant
    ) -> None:
        thief = await Browser(browser.api, stranger.owner.email).log_in()
        refused = (await thief.ask(REVOKE, id=browser.session_id)).data["revokeSession"]
        assert refused["userErrors"] == [{"code": "NOT_FOUND"}]
        node = "query ($id: ID!) { node(id: $id) { id } }"
        assert (await thief.ask(node, id=browser.session_id)).data == {"node": None}
        assert (await browser.ask(node, id=browser.session_id)).data["node"]

    async def test_all_others_end(self, browser: Browser) -> None:
        others = [await Browser(browser.api, browser.email).log_in() for _ in range(2)]
        assert (await browser.ask(OTHERS)).data["revokeOtherSessions"]["revoked"] == 2
        for other in others:
            assert (await other.ask(VIEWER)).code == "UNAUTHENTICATED"
        assert (await browser.ask(VIEWER)).data


class TestLogout:
    async def test_token_in_use_ends(self, browser: Browser) -> None:
        other = await Browser(browser.api, browser.email).log_in()
        ended = (await browser.ask(LOGOUT, all=False)).data["logout"]
        assert ended == {"session": {"revokedWhy": "LOGOUT"}, "userErrors": []}
        assert (await browser.ask(VIEWER)).code == "UNAUTHENTICATED"
        assert (await other.ask(VIEWER)).data

    async def test_everywhere_ends_all(self, browser: Browser) -> None:
        other = await Browser(browser.api, browser.email).log_in()
        await browser.ask(LOGOUT, all=True)
        for each in (browser, other):
            assert (await each.ask(VIEWER)).code == "UNAUTHENTICATED"

    async def test_operators_token_has_no_session_to_end(self, api: Api, customer: Tenant) -> None:
        refused = (await api(LOGOUT, customer.owner, all=False)).data["logout"]
        assert refused["userErrors"] == [{"code": "INVALID"}]
        assert (await api(VIEWER, customer.owner)).data


class TestTokenOfNoSession:
    async def test_unknown_or_foreign_session_is_refused(
        self, api: Api, browser: Browser, stranger: Tenant
    ) -> None:
        """A token that we signed for a session that is not its user's own gets nowhere."""
        claims = api.services.tokens.verify(browser.kept["token"])
        tokens = api.services.tokens
        for user_id, session_id in (
            (claims.user_id, new_id()),
            (stranger.owner.user_id, claims.session_id),
        ):
            assert (await api(VIEWER, tokens.issue(user_id, session_id=session_id))).code == "UNAUTHENTICATED"
