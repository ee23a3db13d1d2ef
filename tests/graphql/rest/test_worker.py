"""A machine enrols, proves its key, and sees itself, over plain HTTP."""

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from raymart_core.ids import Prefix, new_id, parse, show
from raymart_core.wire.link import proof_transcript
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import NodeRole
from raymart_marketplace.supply.service import create_join_token, offers_of, revoke_node
from raymart_providers.identity import Enrolment, keep_enrolment
from raymart_providers.private_file import write_private
from raymart_providers.state_dir import StateDir
from raymart_providers.worker_api import listing
from support.api_server import Api, Seller


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@dataclass
class Machine:
    """A machine with a key, and a seller who lets it join."""

    api: Api
    seller: Seller
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    node_id: str = ""

    async def join_token(self) -> str:
        async with session_scope(self.api.services.sessions) as session:
            _, text = await create_join_token(
                session,
                pool_id=self.seller.pool_id,
                provider_id=self.seller.provider_id,
                role=NodeRole.NODE,
                user_id=None,
            )
        return text

    async def body(self, **changes: Any) -> dict[str, Any]:
        public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {
            "join_token": await self.join_token(),
            "name": f"box-{new_id().hex[-12:]}",
            "public_key": base64url(public),
            "hardware": {"hostname": "box", "cpu_model": "cpu", "cpu_count": 2, "memory_bytes": 8 << 30},
        } | changes

    async def post(self, path: str, body: object) -> Any:
        return await self.api.client.post(f"/worker/v1{path}", json=body)

    async def enrol(self) -> None:
        answer = await self.post("/enrolments", await self.body())
        assert answer.status_code == 201, answer.text
        self.node_id = answer.json()["node_id"]

    async def challenge(self) -> dict[str, Any]:
        answer = await self.post("/challenges", {"node_id": self.node_id})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def proof(self, challenge: dict[str, Any], **changes: Any) -> dict[str, str]:
        values: dict[str, Any] = {
            "node_id": self.node_id,
            "nonce": base64.urlsafe_b64decode(challenge["nonce"]),
            "server": challenge["server"],
            "server_clock_ms": challenge["server_clock_ms"],
        }
        signature = self.key.sign(proof_transcript(**(values | changes)))
        return {"node_id": self.node_id, "nonce": challenge["nonce"], "signature": base64url(signature)}

    async def token(self) -> str:
        answer = await self.post("/tokens", self.proof(await self.challenge()))
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    async def get(self, path: str, token: str | None) -> Any:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self.api.client.get(f"/worker/v1{path}", headers=headers)


@pytest_asyncio.fixture(loop_scope="session")
async def machine(api: Api, seller: Seller) -> Machine:
    machine = Machine(api, seller)
    await machine.enrol()
    return machine


class TestEnrol:
    async def test_join_token_makes_a_node_once(self, api, seller):
        machine = Machine(api, seller)
        body = await machine.body()
        first = await machine.post("/enrolments", body)
        assert first.status_code == 201
        parse(Prefix.NODE, first.json()["node_id"])
        again = await machine.post("/enrolments", body | {"name": "other"})
        assert (again.status_code, again.json()["error"]["code"]) == (401, "invalid_api_key")

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"public_key": "%%%"}, "public_key"),
            ({"public_key": base64url(b"short")}, None),
            ({"name": "Upper Case"}, None),
            ({"name": "x" * 64}, "name"),
            ({"unknown": 1}, "unknown"),
            (
                {"hardware": {"hostname": "b", "cpu_model": "c", "cpu_count": -1, "memory_bytes": 1}},
                "hardware.cpu_count",
            ),
            ({"join_token": 5}, "join_token"),
        ],
    )
    async def test_wrong_body_is_400_and_spends_nothing(self, api, seller, changes, param):
        machine = Machine(api, seller)
        body = await machine.body()
        refused = await machine.post("/enrolments", body | changes)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        assert (await machine.post("/enrolments", body)).status_code == 201

    async def test_living_machine_is_not_enrolled_twice(self, api, seller):
        hardware = {
            "hostname": "b",
            "cpu_model": "c",
            "cpu_count": 1,
            "memory_bytes": 1,
            "machine_id": new_id().hex,
        }
        first, second = Machine(api, seller), Machine(api, seller)
        assert (await first.post("/enrolments", await first.body(hardware=hardware))).status_code == 201
        refused = await second.post("/enrolments", await second.body(hardware=hardware))
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


class TestProve:
    async def test_key_gives_a_token_that_shows_the_node(self, machine):
        shown = (await machine.get("/node", await machine.token())).json()
        assert shown["id"] == machine.node_id
        assert (shown["provider"], shown["role"], shown["linked"]) == (
            machine.seller.provider_slug,
            "node",
            False,
        )

    async def test_challenge_is_good_once(self, machine):
        proof = machine.proof(await machine.challenge())
        assert (await machine.post("/tokens", proof)).status_code == 200
        assert (await machine.post("/tokens", proof)).status_code == 401

    @pytest.mark.parametrize(
        "changes",
        [
            {"server": "raymart"},  # What the link has nodes sign.
            {"server_clock_ms": 0},
            {"node_id": show(Prefix.NODE, new_id())},
            {"nonce": bytes(32)},
        ],
    )
    async def test_proof_of_something_else_is_refused(self, machine, changes):
        challenge = await machine.challenge()
        assert (await machine.post("/tokens", machine.proof(challenge, **changes))).status_code == 401
        # And the challenge is spent.
        assert (await machine.post("/tokens", machine.proof(challenge))).status_code == 401

    async def test_challenge_of_another_node_is_refused(self, api, seller, machine):
        other = Machine(api, seller)
        await other.enrol()
        challenge = await other.challenge()
        assert (await machine.post("/tokens", machine.proof(challenge))).status_code == 401

    async def test_another_machines_key_is_refused(self, api, seller, machine):
        thief = Machine(api, seller, node_id=machine.node_id)
        assert (await thief.post("/tokens", thief.proof(await thief.challenge()))).status_code == 401

    async def test_unknown_node_is_told_nothing_before_its_proof(self, api, seller):
        nobody = Machine(api, seller, node_id=show(Prefix.NODE, new_id()))
        assert (await nobody.post("/tokens", nobody.proof(await nobody.challenge()))).status_code == 401


class TestNode:
    @pytest.mark.parametrize("path", ["/node", "/placements", "/endpoints"])
    async def test_no_token_and_others_tokens_are_refused(self, machine, path):
        person = machine.seller.tenant.owner.token
        _, key = await machine.api.api_key(machine.seller.tenant)
        for token in (None, person, key, "rmn_" + "x" * 43, "x"):
            refused = await machine.get(path, token)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key"), token

    async def test_nodes_token_opens_nothing_else(self, machine):
        token = await machine.token()
        assert (await machine.api("{ viewer { user { id } } }", token)).code == "UNAUTHENTICATED"
        listed = await machine.api.client.get("/v1/models", headers={"authorization": f"Bearer {token}"})
        assert listed.status_code == 401

    async def test_revoked_node_is_refused_at_once(self, machine):
        token = await machine.token()
        async with session_scope(machine.api.services.sessions) as session:
            await revoke_node(session, node_id=parse(Prefix.NODE, machine.node_id))
        assert (await machine.get("/node", token)).status_code == 401

    async def test_placements_are_its_own_offers(self, machine):
        [placement] = (await machine.get("/placements", await machine.token())).json()
        assert (placement["model"], placement["revision"], placement["state"]) == (
            machine.seller.model_slug,
            machine.seller.digest,
            "requested",
        )

    async def test_endpoints_of_others_are_not_shown(self, machine, replica):
        assert (await machine.get("/endpoints", await machine.token())).json() == []


class TestOwnView:
    async def test_a_node_sees_its_providers_nodes_and_offers_and_nobody_elses(self, api, seller, machine):
        token = await machine.token()
        nodes = (await machine.get("/nodes", token)).json()
        assert machine.node_id in [node["id"] for node in nodes]
        assert {node["provider"] for node in nodes} == {nodes[0]["provider"]}
        async with session_scope(api.services.sessions) as session:
            mine = {show(Prefix.OFFER, offer.id) for offer in await offers_of(session, seller.provider_id)}
        offers = (await machine.get("/offers", token)).json()
        assert {offer["id"] for offer in offers} == mine != set()

    async def test_a_node_that_was_never_measured_has_no_checks(self, machine):
        assert (await machine.get("/benchmarks", await machine.token())).json() == []

    @pytest.mark.parametrize("path", ["/nodes", "/offers", "/benchmarks"])
    async def test_without_a_token_nothing_is_shown(self, machine, path):
        assert (await machine.get(path, None)).status_code == 401

    async def test_the_command_lists_them_with_the_key_that_enrolled(self, api, machine, tmp_path):
        """`raymart-provider nodes`, over a real connection."""
        state = StateDir(tmp_path / "node")
        state.create()
        pem = machine.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(state.key, pem)
        server = api.ws_url.replace("ws://", "http://").removesuffix("/graphql")
        keep_enrolment(
            state.enrolment, Enrolment(node_id=machine.node_id, name="box", role="node", server=server)
        )
        rows = await asyncio.to_thread(listing, state, "nodes", server=None, allow_plaintext=False)
        assert machine.node_id in [row["id"] for row in rows]
