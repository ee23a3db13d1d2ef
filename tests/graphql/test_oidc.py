"""Logging in by an OpenID provider: a real one, in a process of its own, whose answers are broken in each way once."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from sqlalchemy import select

from raymart_core.clock import now
from raymart_core.ids import new_id
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.oidc_models import OidcIdentity
from raymart_marketplace.db.session import session_scope
from support.api_server import PASSWORD, Api, Person, api_server, control_settings
from support.openid_provider import Browser, OpenIdProvider, openid_provider
from support.openid_provider_process import ID_TOKENS

EXCHANGE = """mutation ($code: String!, $verifier: String!) {
  exchangeLoginCode(input: {code: $code, verifier: $verifier}) {
    token refreshToken session { method } user { email name } userErrors { code message }
  }
}"""
LINK = """mutation ($code: String!, $verifier: String!) {
  linkOidcIdentity(input: {code: $code, verifier: $verifier}) { login { issuer email } userErrors { code } }
}"""
UNLINK = (
    """mutation { unlinkOidcIdentity(input: {provider: "acme"}) { login { issuer } userErrors { code } } }"""
)
VIEWER = "{ viewer { user { email name } organizations { nodes { kind viewerRole } } } }"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provider() -> AsyncIterator[OpenIdProvider]:
    with openid_provider() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(database_url: str, redis_server: Any, provider: OpenIdProvider) -> AsyncIterator[Api]:
    """An API that knows the provider by two names with different rules, and one that is away."""
    away = provider.settings(name="away", issuer="http://localhost:1")
    settings = control_settings(
        database_url, redis_url=redis_server.url, oidc_providers=[provider.settings(), away]
    )
    async with api_server(settings) as site:
        yield site


@pytest.fixture
def browser(site: Api) -> Browser:
    return Browser(f"http://127.0.0.1:{site.port}")


@pytest_asyncio.fixture(loop_scope="session")
async def sub(provider: OpenIdProvider) -> str:
    """Somebody at the provider with a verified address of their own."""
    sub = f"sub-{new_id().hex[-12:]}"
    await provider.person(sub, email=f"{sub}@example.com", email_verified=True, name="Ada L.")
    return sub


async def exchange(site: Api, browser: Browser, came_back: dict[str, str], **changes: str) -> dict[str, Any]:
    assert "login_code" in came_back, came_back
    given = {"code": came_back["login_code"], "verifier": browser.verifier} | changes
    return (await site(EXCHANGE, **given)).data["exchangeLoginCode"]


async def link(
    site: Api, browser: Browser, came_back: dict[str, str], person: Person | str
) -> dict[str, Any]:
    answer = await site(LINK, person, code=came_back["login_code"], verifier=browser.verifier)
    return answer.data["linkOidcIdentity"]


def codes(payload: dict[str, Any]) -> list[str]:
    return [error["code"] for error in payload["userErrors"]]


class TestLogin:
    async def test_first_login_makes_an_account_and_the_next_finds_it(
        self, site: Api, browser: Browser, sub: str, provider: OpenIdProvider
    ):
        opened = await exchange(site, browser, await browser.log_in(sub))
        assert opened["userErrors"] == []
        assert opened["session"] == {"method": "OIDC"}
        viewer = (await site(VIEWER, opened["token"])).data["viewer"]
        assert viewer["user"] == {"email": f"{sub}@example.com", "name": "Ada L."}
        assert viewer["organizations"]["nodes"] == [{"kind": "CUSTOMER", "viewerRole": "OWNER"}]
        # The address at the provider changes; the person does not.
        await provider.person(sub, email="other@example.com", email_verified=False)
        again = await exchange(site, browser, await browser.log_in(sub))
        assert again["user"]["email"] == f"{sub}@example.com"

    async def test_stranger_gets_no_account_while_sign_ups_are_off_and_members_log_in(
        self, site: Api, browser: Browser, sub: str, provider: OpenIdProvider
    ):
        await exchange(site, browser, await browser.log_in(sub))
        stranger = f"sub-{new_id().hex[-12:]}"
        await provider.person(stranger, email=f"{stranger}@example.com", email_verified=True, name="New")
        admin = await site.admin()
        switch = "mutation ($input: SetFeatureSwitchInput!) { setFeatureSwitch(input: $input) { userErrors { code } } }"
        try:
            await site(switch, admin, input={"feature": "SIGNUPS", "state": "OFF"})
            refused = await exchange(site, browser, await browser.log_in(stranger))
            assert (codes(refused), refused["token"]) == (["FORBIDDEN"], None)
            assert (await exchange(site, browser, await browser.log_in(sub)))["token"]
        finally:
            await site(switch, admin, input={"feature": "SIGNUPS", "state": "ON"})

    async def test_request_has_pkce_state_nonce_and_the_exact_redirect(self, browser: Browser):
        started = await browser.start()
        asked = {
            name: value for name, [value] in parse_qs(urlsplit(started.headers["location"]).query).items()
        }
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert len(asked["code_challenge"]) == 43
        assert asked["redirect_uri"] == "http://127.0.0.1:8000/auth/oidc/acme/callback"
        assert set(asked["scope"].split()) == {"openid", "email", "profile"}
        assert len(asked["state"]) >= 43
        assert len(asked["nonce"]) >= 43
        cookie = started.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert asked["state"] not in cookie

    async def test_code_counts_once(self, site: Api, browser: Browser, sub: str):
        came_back = await browser.log_in(sub)
        assert codes(await exchange(site, browser, came_back)) == []
        assert codes(await exchange(site, browser, came_back)) == ["INVALID_CREDENTIALS"]

    async def test_code_without_the_pages_verifier_is_of_no_use(self, site: Api, browser: Browser, sub: str):
        came_back = await browser.log_in(sub)
        stolen = await exchange(site, browser, came_back, verifier=Browser("").verifier)
        assert codes(stolen) == ["INVALID_CREDENTIALS"]
        assert codes(await exchange(site, browser, came_back)) == ["INVALID_CREDENTIALS"]

    async def test_disabled_user_is_refused(self, site: Api, browser: Browser, sub: str):
        await exchange(site, browser, await browser.log_in(sub))
        async with session_scope(site.services.sessions) as session:
            user = (await session.scalars(select(User).where(User.email == f"{sub}@example.com"))).one()
            user.disabled_at = now()
        assert codes(await exchange(site, browser, await browser.log_in(sub))) == ["INVALID_CREDENTIALS"]

    async def test_providers_are_listed(self, site: Api, provider: OpenIdProvider):
        listed = await site("{ loginProviders { name issuer startUrl } }")
        assert listed.data["loginProviders"][0] == {
            "name": "acme",
            "issuer": provider.issuer,
            "startUrl": "http://127.0.0.1:8000/auth/oidc/acme/start",
        }


class TestAddresses:
    @pytest.mark.parametrize("verified", [False, None, "true", 1])
    async def test_unverified_address_makes_no_account(
        self, site: Api, browser: Browser, sub: str, provider: OpenIdProvider, verified: object
    ):
        await provider.person(sub, email=f"{sub}@example.com", email_verified=verified)
        assert codes(await exchange(site, browser, await browser.log_in(sub))) == ["FORBIDDEN"]

    async def test_address_of_an_account_opens_it_only_once_it_is_linked_from_inside(
        self, site: Api, browser: Browser, sub: str, provider: OpenIdProvider
    ):
        tenant = await site.tenant()
        await provider.person(sub, email=tenant.owner.email, email_verified=True)
        assert codes(await exchange(site, browser, await browser.log_in(sub))) == ["CONFLICT"]
        linked = await link(site, browser, await browser.log_in(sub), tenant.owner)
        assert linked == {"login": {"issuer": provider.issuer, "email": tenant.owner.email}, "userErrors": []}
        opened = await exchange(site, browser, await browser.log_in(sub))
        assert opened["user"]["email"] == tenant.owner.email
        assert (await site(UNLINK, tenant.owner)).data["unlinkOidcIdentity"]["userErrors"] == []
        assert codes(await exchange(site, browser, await browser.log_in(sub))) == ["CONFLICT"]

    async def test_identity_of_another_account_is_not_taken_over(self, site: Api, browser: Browser, sub: str):
        opened = await exchange(site, browser, await browser.log_in(sub))
        tenant = await site.tenant()
        assert codes(await link(site, browser, await browser.log_in(sub), tenant.owner)) == ["CONFLICT"]
        assert codes(await link(site, browser, await browser.log_in(sub), opened["token"])) == []

    async def test_second_identity_of_a_provider_is_refused(
        self, site: Api, browser: Browser, sub: str, provider: OpenIdProvider
    ):
        tenant = await site.tenant()
        assert codes(await link(site, browser, await browser.log_in(sub), tenant.owner)) == []
        other = f"{sub}-2"
        await provider.person(other, email="x@example.com", email_verified=True)
        assert codes(await link(site, browser, await browser.log_in(other), tenant.owner)) == ["CONFLICT"]

    async def test_password_of_an_account_made_by_a_login_is_nobodys(
        self, site: Api, browser: Browser, sub: str
    ):
        await exchange(site, browser, await browser.log_in(sub))
        login = "mutation ($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { userErrors { code } } }"
        answer = await site(login, e=f"{sub}@example.com", p=PASSWORD)
        assert answer.data["login"]["userErrors"] == [{"code": "INVALID_CREDENTIALS"}]


class TestAnswers:
    async def test_state_of_nobody_is_refused(self, browser: Browser, sub: str):
        location = await browser.at_provider((await browser.start()).headers["location"], sub)
        state = parse_qs(urlsplit(location).query)["state"][0]
        for wrong in ("", "x", state[:-1], state + "A"):
            assert await browser.come_back(location.replace(state, wrong)) == {
                "login_error": "invalid_api_key"
            }

    async def test_replayed_answer_is_refused(self, browser: Browser, sub: str):
        location = await browser.at_provider((await browser.start()).headers["location"], sub)
        cookies = dict(browser.cookies)
        assert "login_code" in await browser.come_back(location)
        browser.cookies = cookies
        assert await browser.come_back(location) == {"login_error": "invalid_api_key"}

    async def test_answer_in_another_browser_is_refused(self, site: Api, browser: Browser, sub: str):
        """Or one could have a stranger finish one's own login, and with it link their account to oneself."""
        location = await browser.at_provider((await browser.start()).headers["location"], sub)
        stranger = Browser(browser.base_url)
        assert await stranger.come_back(location) == {"login_error": "invalid_api_key"}
        began = Browser(browser.base_url)
        mine = await began.at_provider((await began.start()).headers["location"], sub)
        stranger.cookies = {"raymart_login": "x" * 43}
        assert await stranger.come_back(mine) == {"login_error": "invalid_api_key"}

    async def test_code_of_another_login_is_refused(self, browser: Browser, sub: str):
        """The provider binds a code to its nonce: an injected one fails though the state is good."""
        other = Browser(browser.base_url)
        stolen = await other.at_provider((await other.start()).headers["location"], sub)
        code = parse_qs(urlsplit(stolen).query)["code"][0]
        location = await browser.at_provider((await browser.start()).headers["location"], sub)
        own = parse_qs(urlsplit(location).query)["code"][0]
        assert await browser.come_back(location.replace(own, code)) == {"login_error": "invalid_api_key"}

    async def test_answer_on_another_providers_path_is_refused(self, browser: Browser, sub: str):
        location = await browser.at_provider((await browser.start()).headers["location"], sub)
        mixed_up = location.replace("/acme/", "/away/")
        assert await browser.come_back(mixed_up) == {"login_error": "invalid_api_key"}

    async def test_issuer_in_the_answer_must_be_the_one_that_was_asked(
        self, browser: Browser, sub: str, provider
    ):
        location = await browser.at_provider((await browser.start()).headers["location"], sub)
        assert await browser.come_back(f"{location}&iss=https://evil.example") == {
            "login_error": "invalid_api_key"
        }
        location = await browser.at_provider((await browser.start()).headers["location"], sub)
        assert "login_code" in await browser.come_back(f"{location}&iss={provider.issuer}")

    async def test_parameter_that_is_there_twice_is_refused(self, browser: Browser, sub: str):
        location = await browser.at_provider((await browser.start()).headers["location"], sub)
        assert await browser.come_back(f"{location}&code=x") == {"login_error": "invalid_request"}

    async def test_refusal_at_the_provider_comes_back_as_one(self, browser: Browser):
        url = (await browser.start()).headers["location"]
        state = parse_qs(urlsplit(url).query)["state"][0]
        refused = f"http://127.0.0.1:8000/auth/oidc/acme/callback?error=access_denied&state={state}"
        assert await browser.come_back(refused) == {"login_error": "invalid_api_key"}

    async def test_unknown_provider_and_missing_challenge_are_told(self, site: Api):
        assert (await site.client.get("/auth/oidc/nobody/start")).status_code == 404
        assert (await site.client.get("/auth/oidc/nobody/callback")).status_code == 404
        assert (await site.client.get("/auth/oidc/acme/start")).status_code == 400


class TestTokens:
    async def test_every_wrong_id_token_is_refused_and_the_honest_one_is_not(
        self, site: Api, browser: Browser, sub: str, provider: OpenIdProvider
    ):
        believed = []
        for name in ID_TOKENS:
            async with provider.fault(name):
                if await browser.log_in(sub) != {"login_error": "invalid_api_key"}:
                    believed.append(name)
        assert believed == []
        assert len(ID_TOKENS) > 20
        assert "login_code" in await browser.log_in(sub)
        async with session_scope(site.services.sessions) as session:
            assert (
                await session.scalars(select(OidcIdentity).where(OidcIdentity.subject == sub))
            ).all() == []

    @pytest.mark.parametrize("fault", ["token error", "token page", "token flood"])
    async def test_provider_that_does_not_answer_as_one_is_away(
        self, browser: Browser, sub: str, provider: OpenIdProvider, fault: str
    ):
        async with provider.fault(fault):
            assert await browser.log_in(sub) == {"login_error": "login_provider_away"}

    async def test_provider_that_is_down_is_told(self, browser: Browser, sub: str):
        assert await browser.log_in(sub, "away") == {"login_error": "login_provider_away"}
