"""Promise 17: an unknown machine gets in nowhere. Forgeries at the link and at the HTTP door of machines.

The doors on a machine are in `tests/serve/replica/test_http.py` (replica port) and `tests/providers/test_loopback.py`
(agent); those of Ray, over a network, in `tests/netns/test_house_pool.py`.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select, text, update

from raymart_core.ids import Prefix, new_id, parse, show
from raymart_core.wire.link import LINK_PATH
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import Node, NodeRole, Provider, ProviderState
from raymart_marketplace.supply.service import create_join_token, revoke_node
from support.api_server import Api, Seller
from support.machine_forgeries import FORGERIES, Doors, attempt
from support.raw_node import RawNode, again, raw_node


@dataclass(frozen=True, slots=True)
class Link:
    """Where the link of an API is."""

    link_url: str


async def join_token(api: Api, seller: Seller, *, ttl_s: int = 3600) -> str:
    async with session_scope(api.services.sessions) as session:
        _, token = await create_join_token(
            session,
            pool_id=seller.pool_id,
            provider_id=seller.provider_id,
            role=NodeRole.NODE,
            user_id=None,
            ttl_s=ttl_s,
        )
    return token


async def enrolled(api: Api, link: Any, seller: Seller) -> RawNode:
    """A node of the seller's that has proved itself once; its connection is over."""
    async with raw_node(link) as node:
        await node.enrol(await join_token(api, seller), name=f"node-{new_id().hex[-12:]}")
        await node.prove()
    return node


async def suspend(api: Api, seller: Seller) -> None:
    async with session_scope(api.services.sessions) as session:
        statement = update(Provider).where(Provider.id == seller.provider_id)
        await session.execute(statement.values(state=ProviderState.SUSPENDED))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def doors(api: Api) -> AsyncIterator[Doors]:
    link = Link(f"ws://127.0.0.1:{api.port}{LINK_PATH}")
    seller, other, bad = [await api.seller() for _ in range(3)]
    revoked, banned = await enrolled(api, link, seller), await enrolled(api, link, bad)
    expired, fresh = await join_token(api, seller), await join_token(api, seller)
    suspended, spent = await join_token(api, bad), await join_token(api, seller)
    async with raw_node(link) as owner:
        await owner.enrol(spent, name=f"owner-{new_id().hex[-12:]}")
    async with session_scope(api.services.sessions) as session:
        await revoke_node(session, node_id=parse(Prefix.NODE, revoked.node_id))
        await session.execute(
            text("update join_token set expires_at = clock_timestamp() where token_hash = :hash"),
            {"hash": hashlib.sha256(expired.encode()).digest()},
        )
    await suspend(api, bad)
    _, api_key = await api.api_key(seller.tenant)
    yield Doors(
        market=link,
        honest=await enrolled(api, link, seller),
        neighbour=await enrolled(api, link, other),
        revoked=revoked,
        banned=banned,
        tokens={
            "fresh": fresh,
            "spent": spent,
            "expired": expired,
            "suspended": suspended,
            "cut": fresh[:-1],
            "blank": f"{fresh} ",
            "made up": "rmj_" + "A" * 43,
            "none": "",
            "API key": api_key,
            "person": seller.tenant.owner.token,
            "hash": hashlib.sha256(fresh.encode()).hexdigest(),
        },
    )


async def thieves(api: Api) -> int:
    """Nodes that a forgery made: each asks for such a name."""
    statement = select(func.count()).select_from(Node).where(Node.name.startswith("thief-"))
    async with session_scope(api.services.sessions) as session:
        return await session.scalar(statement) or 0


class TestLink:
    @pytest.mark.parametrize("name", FORGERIES)
    async def test_a_forgery_is_refused_and_makes_nobody(self, api, doors, name):
        heard = await attempt(FORGERIES[name], doors)
        assert heard not in {"welcome", "enrolled"}, name
        assert await thieves(api) == 0

    async def test_the_honest_node_is_let_in_after_all_of_it(self, doors):
        async with again(doors.market, doors.honest) as node:
            await node.prove()

    async def test_the_join_token_was_spent_by_no_forgery(self, doors):
        async with raw_node(doors.market) as node:
            await node.enrol(doors.tokens["fresh"], name=f"owner-{new_id().hex[-12:]}")
            await node.prove()


class TestStolenToken:
    async def test_its_owner_sees_the_theft_and_it_gives_the_thief_no_second_machine(self, api, doors):
        """Whoever comes first has it, once; so the owner's machine is refused, and the thief's is in the owner's list."""
        seller = await api.seller()
        token = await join_token(api, seller)
        async with raw_node(doors.market) as robber:
            await robber.enrol(token, name="robber")
        for _ in range(2):
            assert await attempt(FORGERIES["spent join token"], doors_with(doors, spent=token)) == "bad_token"
        async with session_scope(api.services.sessions) as session:
            names = await session.scalars(select(Node.name).where(Node.provider_id == seller.provider_id))
            assert "robber" in set(names)
            await revoke_node(session, node_id=parse(Prefix.NODE, robber.node_id))
        assert await attempt(FORGERIES["revoked node"], doors_with(doors, revoked=robber)) == "revoked"


def doors_with(doors: Doors, *, revoked: RawNode | None = None, **tokens: str) -> Doors:
    return Doors(
        market=doors.market,
        honest=doors.honest,
        neighbour=doors.neighbour,
        revoked=revoked or doors.revoked,
        banned=doors.banned,
        tokens={**doors.tokens, **tokens},
    )


class TestLiveLink:
    async def test_revoking_a_node_ends_its_link(self, api, doors):
        seller = await api.seller()
        known = await enrolled(api, doors.market, seller)
        async with again(doors.market, known) as node:
            await node.prove()
            admin = seller.tenant.owner
            answer = await api(
                "mutation($input: RetireNodeInput!) { retireNode(input: $input) { userErrors { message } } }",
                admin,
                input={"nodeId": node.node_id},
            )
            assert answer.data["retireNode"]["userErrors"] == []
            assert (await node.refusal()).reason == "revoked"
        assert await attempt(FORGERIES["revoked node"], doors_with(doors, revoked=known)) == "revoked"


class TestHttpDoor:
    @pytest.mark.parametrize(
        "authorization",
        [
            None,
            "",
            "Bearer",
            "Bearer rmn_",
            "Bearer rmn_" + "A" * 43,
            "Basic cm1uXzpybW5f",
            "rmn_" + "A" * 43,
            "Bearer rmn_\xff",
            "Bearer " + "x" * 4_000,
        ],
    )
    @pytest.mark.parametrize("path", ["/node", "/placements", "/endpoints"])
    async def test_no_machine_is_taken_for_one(self, api, path, authorization):
        headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
        answer = await api.client.get(f"/worker/v1{path}", headers=headers)
        assert answer.status_code in {400, 401}

    async def test_join_tokens_and_link_proofs_open_nothing(self, api, doors):
        for secret in doors.tokens.values():
            headers = {"authorization": f"Bearer {secret}".strip()}
            assert (await api.client.get("/worker/v1/node", headers=headers)).status_code == 401
        body = {"node_id": show(Prefix.NODE, new_id()), "nonce": "A" * 43, "signature": "A" * 86}
        assert (await api.client.post("/worker/v1/tokens", json=body)).status_code == 401
