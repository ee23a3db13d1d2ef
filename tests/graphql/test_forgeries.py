"""Promise 15 from outside: forged and misused tokens at GraphQL, the REST surface and the WebSocket; none is believed."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable

import pytest
import websockets
from sqlalchemy import delete

from raymart_core.clock import now
from raymart_core.ids import new_id
from raymart_marketplace.accounts.models import Membership, Role, User
from raymart_marketplace.accounts.tokens import TTL_S_MAX, AccessTokens
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Tenant
from support.forgeries import Forger

SOCKETS_AT_ONCE = 8
SURFACES = {"graphql", "rest", "websocket"}


@pytest.fixture
def forger(api: Api, customer: Tenant) -> Forger:
    """Knows the running marketplace's own secret."""
    settings = api.services.settings
    return Forger(
        secret=settings.token_secret.get_secret_value().encode(),
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        user_id=customer.owner.user_id,
        at=int(time.time()),
    )


def header(token: str) -> bytes | None:
    """The token as an HTTP header carries it; None for what no header can."""
    sent = token.encode("utf-8", "surrogatepass")
    unfit = not sent or len(sent) > 16_000 or any(byte < 32 or byte == 127 for byte in sent)
    return None if unfit else b"Bearer " + sent


async def accepted_by(api: Api, token: str) -> set[str]:
    """Which surfaces believe `token`."""
    surfaces = set()
    if await _by_socket(api, token):
        surfaces.add("websocket")
    sent = header(token)
    if sent is None:
        return surfaces
    asked = {"query": "{ viewer { user { id } } }"}
    answer = await api.client.post("/graphql", json=asked, headers={"authorization": sent})
    assert answer.status_code < 500
    if (answer.json().get("data") or {}).get("viewer"):
        surfaces.add("graphql")
    else:
        assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["UNAUTHENTICATED"]
    answer = await api.client.get("/v1/models", headers={"authorization": sent})
    if answer.status_code == 200:
        surfaces.add("rest")
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    return surfaces


async def _by_socket(api: Api, token: str) -> bool:
    async with websockets.connect(
        api.ws_url, subprotocols=["graphql-transport-ws"], max_size=None, open_timeout=30
    ) as socket:
        payload = {"authorization": f"Bearer {token}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        with contextlib.suppress(websockets.ConnectionClosed):
            return bool(json.loads(await socket.recv())["type"] == "connection_ack")
        # 4403 refused; 4400 for what is no text, 1009 for what is too long.
        assert socket.close_code in {4403, 4400, 1009}
        return False


async def accepted(api: Api, tokens: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Names of the tokens that some surface believes, with the surfaces."""
    turn = asyncio.Semaphore(SOCKETS_AT_ONCE)

    async def one(name: str, token: str) -> tuple[str, set[str]]:
        async with turn:
            return name, await accepted_by(api, token)

    answers = await asyncio.gather(*(one(name, token) for name, token in tokens))
    return {name: surfaces for name, surfaces in answers if surfaces}


class TestForgeries:
    async def test_none_is_accepted_anywhere(self, api: Api, forger: Forger):
        """The honest token that each is made of is accepted by all three: the matrix would notice."""
        # Blanks around a credential are the header's; the token between them is the honest one.
        forgeries = {
            name: token for name, token in forger.forgeries().items() if token.strip(" ") != forger.honest
        }
        assert len(forgeries) > 150
        assert sum(header(token) is not None for token in forgeries.values()) > 150
        assert await accepted_by(api, forger.honest) == SURFACES
        assert await accepted(api, forgeries.items()) == {}
        assert await accepted_by(api, forger.honest) == SURFACES


class TestMisuse:
    """Tokens that we signed ourselves, for somebody or something else."""

    async def test_token_of_who_is_no_user_is_refused(self, api: Api):
        assert await accepted_by(api, api.services.tokens.issue(new_id())) == set()

    async def test_token_of_a_disabled_user_is_refused(self, api: Api, customer: Tenant):
        person = customer.people[Role.DEVELOPER]
        assert await accepted_by(api, person.token) == SURFACES
        async with session_scope(api.services.sessions) as session:
            (await session.get_one(User, person.user_id)).disabled_at = now()
        api.services.authenticator.forget_user(person.user_id)
        assert await accepted_by(api, person.token) == set()

    async def test_expired_token_is_refused(self, api: Api, customer: Tenant, forger: Forger):
        past = forger.but({"iat": forger.at - TTL_S_MAX, "exp": forger.at - 1})
        assert await accepted_by(api, forger.sign(claims=past)) == set()

    async def test_token_of_another_environment_is_refused(self, api: Api, customer: Tenant, forger: Forger):
        """Staging may have been set up with a copy of the secrets; its name is another."""
        settings = api.services.settings
        other = {"issuer": settings.token_issuer, "audience": settings.token_audience, "ttl_s": 900}
        tokens = {
            "issuer": AccessTokens(forger.secret, **{**other, "issuer": "raymart-staging"}),
            "audience": AccessTokens(forger.secret, **{**other, "audience": "raymart-staging"}),
            "secret": AccessTokens(b"s" * 32, **other),
        }
        issued = [(name, each.issue(customer.owner.user_id)) for name, each in tokens.items()]
        assert await accepted(api, issued) == {}

    async def test_token_of_who_left_every_organization_buys_nothing(self, api: Api, customer: Tenant):
        person = customer.people[Role.DEVELOPER]
        async with session_scope(api.services.sessions) as session:
            await session.execute(delete(Membership).where(Membership.user_id == person.user_id))
        answer = await api.client.get("/v1/models", headers={"authorization": f"Bearer {person.token}"})
        assert answer.status_code == 403
