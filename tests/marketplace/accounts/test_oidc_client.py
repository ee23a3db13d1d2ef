"""The relying party alone, against a real provider: metadata, keys, and the issuer in the answer."""

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from pydantic import ValidationError

from raymart_core.errors import NotAuthenticated
from raymart_core.ids import new_id
from raymart_marketplace.accounts.oidc_client import KEYS_RETRY_S, METADATA_TTL_S, Identity, OidcClient
from raymart_marketplace.accounts.oidc_fetching import ProviderAway
from support.fixed_clock import Hand
from support.openid_provider import OpenIdProvider, openid_provider

REDIRECT = "https://raymart.example/auth/oidc/acme/callback"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as running:
        yield running


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
async def client(provider: OpenIdProvider, hand: Hand) -> AsyncIterator[OidcClient]:
    client = OidcClient(provider.settings(), redirect_uri=REDIRECT, monotonic=hand)
    yield client
    await client.aclose()


async def log_in(client: OidcClient, *, without: str = "", **changes: str) -> Identity:
    """Through the provider and back, with changes to its answer."""
    state, nonce, verifier = (secrets.token_urlsafe(40) for _ in range(3))
    url = await client.authorization_url(state=state, nonce=nonce, verifier=verifier)
    async with httpx.AsyncClient(verify=False) as http:
        sent_back = await http.post(url, data={"sub": f"sub-{new_id().hex}"})
    answer = dict(parse_qsl(urlsplit(sent_back.headers["location"]).query)) | changes
    answer.pop(without, None)
    return await client.exchange(answer, nonce=nonce, verifier=verifier)


class TestMetadata:
    @pytest.mark.parametrize(
        "fault",
        [
            "metadata of another issuer",
            "metadata without algorithms",
            "metadata with an odd endpoint",
            "metadata gone",
            "metadata elsewhere",
        ],
    )
    async def test_metadata_that_is_not_good_is_a_provider_that_is_away(self, client, provider, fault: str):
        async with provider.fault(fault):
            with pytest.raises(ProviderAway):
                await log_in(client)
        assert (await log_in(client)).issuer == provider.issuer

    async def test_metadata_is_kept_for_an_hour(self, client, provider, hand):
        await log_in(client)
        async with provider.fault("metadata gone"):
            hand.at += METADATA_TTL_S - 1
            await log_in(client)
            hand.at += 1
            with pytest.raises(ProviderAway):
                await log_in(client)

    async def test_challenge_is_that_of_the_verifier(self, client):
        verifier = secrets.token_urlsafe(48)
        url = await client.authorization_url(state="s" * 43, nonce="n" * 43, verifier=verifier)
        digest = hashlib.sha256(verifier.encode()).digest()
        [challenge] = parse_qs(urlsplit(url).query)["code_challenge"]
        assert challenge == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        assert verifier not in url


class TestKeys:
    async def test_new_key_is_fetched_when_it_is_met_but_not_all_the_time(self, client, provider, hand):
        await log_in(client)
        async with provider.fault("new key"):
            pass
        with pytest.raises(NotAuthenticated):
            await log_in(client)
        hand.at += KEYS_RETRY_S
        assert (await log_in(client)).issuer == provider.issuer

    async def test_provider_without_keys_is_believed_nothing(self, client, provider):
        async with provider.fault("no keys"):
            with pytest.raises((NotAuthenticated, ProviderAway)):
                await log_in(client)


class TestAnswer:
    async def test_issuer_must_be_there_when_the_provider_says_so(self, client, provider):
        async with provider.fault("says issuer"):
            assert (await log_in(client, iss=provider.issuer)).issuer == provider.issuer
            with pytest.raises(NotAuthenticated):
                await log_in(client)

    @pytest.mark.parametrize("issuer", ["https://evil.example", "", "HTTP://LOCALHOST"])
    async def test_issuer_of_another_is_refused(self, client, issuer: str):
        with pytest.raises(NotAuthenticated):
            await log_in(client, iss=issuer)

    async def test_answer_without_a_code_is_refused(self, client):
        with pytest.raises(NotAuthenticated):
            await log_in(client, without="code")

    async def test_code_that_the_provider_does_not_know_is_refused(self, client):
        with pytest.raises(NotAuthenticated):
            await log_in(client, code="made-up")


class TestSettings:
    @pytest.mark.parametrize(
        "changes",
        [
            {"issuer": "http://id.example.com"},
            {"issuer": "https://id.example.com/?tenant=1"},
            {"issuer": "http://localhost.evil.example"},
            {"name": "Acme!"},
            {"name": "../x"},
            {"scopes": ("email",)},
            {"unknown": 1},
        ],
    )
    def test_unfit_provider_is_refused_at_start(self, provider, changes: dict[str, Any]):
        with pytest.raises(ValidationError):
            provider.settings(**changes)
