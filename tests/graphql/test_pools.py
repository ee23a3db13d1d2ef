"""Pools that providers and administrators make, and join tokens that are listed and taken back."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from raymart_core.ids import Prefix, new_id, show
from raymart_core.wire import link
from raymart_marketplace.accounts.models import Role
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.enrolment import LinkRefused, enrol
from raymart_marketplace.supply.models import JoinToken, Pool, PoolKind, Provider, ProviderState
from raymart_marketplace.supply.pools import POOLS_MAX
from support.api_server import Api, Seller

CREATE = """mutation ($input: CreatePoolInput!) { createPool(input: $input) {
  pool { id slug kind region } userErrors { code field } } }"""
HOUSE = """mutation ($input: CreateHousePoolInput!) { createHousePool(input: $input) {
  pool { slug kind region } userErrors { code field } } }"""
TOKEN = """mutation ($input: CreateJoinTokenInput!) { createJoinToken(input: $input) {
  token joinToken { id role createdAt expiresAt pool { slug } createdBy { email } } userErrors { code field } } }"""
TOKENS = """query ($id: ID!) { provider(id: $id) { joinTokens(first: 10) { nodes {
  id role createdAt expiresAt pool { slug } createdBy { email } } } } }"""
REVOKE = """mutation ($provider: ID!, $token: ID!) {
  revokeJoinToken(input: {providerId: $provider, joinTokenId: $token}) {
    joinToken { id expiresAt } userErrors { code field } } }"""


def wish(seller: Seller, slug: str, region: str = "eu-west") -> dict[str, str]:
    return {"providerId": seller.id, "slug": slug, "region": region}


def fresh_slug() -> str:
    return f"own-{new_id().hex[-12:]}"


async def pools_of(api: Api, provider_id: UUID) -> int:
    async with session_scope(api.services.sessions) as session:
        statement = select(func.count()).where(Pool.provider_id == provider_id)
        return await session.scalar(statement) or 0


class TestCreatePool:
    @pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
    async def test_owner_and_admin_make_one_that_machines_join(
        self, api: Api, seller: Seller, role: Role
    ) -> None:
        person, slug = seller.tenant.people[role], fresh_slug()
        made = (await api(CREATE, person, input=wish(seller, slug))).data["createPool"]
        assert made["userErrors"] == []
        pool = made["pool"]
        assert (pool["slug"], pool["kind"], pool["region"]) == (slug, "PROVIDER", "eu-west")
        given = {"providerId": seller.id, "poolId": pool["id"]}
        token = (await api(TOKEN, person, input=given)).data["createJoinToken"]
        assert token["joinToken"]["pool"] == {"slug": slug}

    async def test_an_operator_makes_none(self, api: Api, seller: Seller) -> None:
        operator = seller.tenant.people[Role.OPERATOR]
        assert (await api(CREATE, operator, input=wish(seller, fresh_slug()))).code == "FORBIDDEN"

    async def test_another_provider_gets_none_of_ours(self, api: Api, seller: Seller) -> None:
        rival = await api.seller()
        refused = await api(CREATE, rival.tenant.owner, input=wish(seller, fresh_slug()))
        assert refused.code == "FORBIDDEN"
        assert await pools_of(api, seller.provider_id) == 1

    async def test_a_slug_is_anybodys_once(self, api: Api, seller: Seller) -> None:
        rival, slug = await api.seller(), fresh_slug()
        assert (await api(CREATE, rival.tenant.owner, input=wish(rival, slug))).data["createPool"]["pool"]
        made = (await api(CREATE, seller.tenant.owner, input=wish(seller, slug))).data["createPool"]
        assert made == {"pool": None, "userErrors": [{"code": "CONFLICT", "field": ["input", "slug"]}]}

    @pytest.mark.parametrize(
        ("slug", "region", "field"),
        [("No Slug", "eu", "slug"), ("", "eu", "slug"), ("a" * 41, "eu", "slug"), (None, "EU!", "region")],
    )
    async def test_what_is_no_name_is_a_user_error(
        self, api: Api, seller: Seller, slug: str | None, region: str, field: str
    ) -> None:
        asked = wish(seller, fresh_slug() if slug is None else slug, region)
        made = (await api(CREATE, seller.tenant.owner, input=asked)).data["createPool"]
        assert made == {"pool": None, "userErrors": [{"code": "INVALID", "field": ["input", field]}]}

    async def test_a_suspended_provider_makes_none(self, api: Api, seller: Seller) -> None:
        async with session_scope(api.services.sessions) as session:
            states = update(Provider).where(Provider.id == seller.provider_id)
            await session.execute(states.values(state=ProviderState.SUSPENDED))
        made = (await api(CREATE, seller.tenant.owner, input=wish(seller, fresh_slug()))).data["createPool"]
        assert [error["code"] for error in made["userErrors"]] == ["FORBIDDEN"]

    async def test_two_at_once_do_not_pass_the_limit(self, api: Api, seller: Seller) -> None:
        async with session_scope(api.services.sessions) as session:
            session.add_all(
                Pool(
                    id=new_id(),
                    slug=fresh_slug(),
                    kind=PoolKind.PROVIDER,
                    region="eu",
                    provider_id=seller.provider_id,
                )
                for _ in range(POOLS_MAX - 2)  # The seller has one already, and there is room for one.
            )
        answers = await asyncio.gather(
            *(api(CREATE, seller.tenant.owner, input=wish(seller, fresh_slug())) for _ in range(3))
        )
        made = [answer.data["createPool"] for answer in answers]
        assert sorted(error["code"] for each in made for error in each["userErrors"]) == ["CONFLICT"] * 2
        assert await pools_of(api, seller.provider_id) == POOLS_MAX


class TestCreateHousePool:
    async def test_administrators_make_one_that_providers_may_join(self, api: Api, seller: Seller) -> None:
        admin, slug = await api.admin(), fresh_slug()
        made = (await api(HOUSE, admin, input={"slug": slug, "region": "eu"})).data["createHousePool"]
        assert made["pool"] == {"slug": slug, "kind": "HOUSE", "region": "eu"}
        again = (await api(HOUSE, admin, input={"slug": slug, "region": "eu"})).data["createHousePool"]
        assert again["userErrors"] == [{"code": "CONFLICT", "field": ["input", "slug"]}]

    async def test_a_provider_makes_none(self, api: Api, seller: Seller) -> None:
        refused = await api(HOUSE, seller.tenant.owner, input={"slug": fresh_slug(), "region": "eu"})
        assert refused.code == "FORBIDDEN"


async def make_token(api: Api, seller: Seller) -> dict:
    given = {"providerId": seller.id, "poolId": show(Prefix.POOL, seller.pool_id)}
    return (await api(TOKEN, seller.tenant.owner, input=given)).data["createJoinToken"]


async def listed(api: Api, seller: Seller) -> list[dict]:
    return (await api(TOKENS, seller.tenant.owner, id=seller.id)).data["provider"]["joinTokens"]["nodes"]


async def join(api: Api, token: str) -> None:
    """Raises: LinkRefused."""
    unique = new_id().hex
    message = link.Enrol(
        version=link.LINK_VERSION,
        join_token=token,
        name=f"node-{unique[-12:]}",
        public_key=bytes.fromhex(unique * 2),
        hardware=link.Hardware(
            machine_id=unique, hostname="box", cpu_model="cpu", cpu_count=2, memory_bytes=2**30, gpus=()
        ),
    )
    async with session_scope(api.services.sessions) as session:
        await enrol(session, message)


class TestJoinTokens:
    async def test_open_ones_are_listed_newest_first_without_the_secret(
        self, api: Api, seller: Seller
    ) -> None:
        first, second = await make_token(api, seller), await make_token(api, seller)
        found = await listed(api, seller)
        assert found == [second["joinToken"], first["joinToken"]]
        assert found[0]["createdBy"] == {"email": seller.tenant.owner.email}
        assert first["token"] not in str(found)

    async def test_used_and_expired_ones_are_not_listed(self, api: Api, seller: Seller) -> None:
        used, old, kept = [await make_token(api, seller) for _ in range(3)]
        await join(api, used["token"])
        async with session_scope(api.services.sessions) as session:
            expired = update(JoinToken).where(JoinToken.id == UUID(old["joinToken"]["id"].partition("_")[2]))
            await session.execute(expired.values(expires_at=func.now() - timedelta(seconds=1)))
        assert [each["id"] for each in await listed(api, seller)] == [kept["joinToken"]["id"]]

    async def test_another_provider_sees_none(self, api: Api, seller: Seller) -> None:
        rival = await api.seller()
        await make_token(api, seller)
        refused = await api(TOKENS, rival.tenant.owner, id=seller.id)
        assert [error["extensions"]["code"] for error in refused.errors] == ["FORBIDDEN"]
        assert await listed(api, rival) == []


class TestRevokeJoinToken:
    async def revoke(self, api: Api, seller: Seller, token_id: str) -> dict:
        given = {"provider": seller.id, "token": token_id}
        return (await api(REVOKE, seller.tenant.owner, **given)).data["revokeJoinToken"]

    async def test_no_machine_joins_with_it_any_more(self, api: Api, seller: Seller) -> None:
        made = await make_token(api, seller)
        done = await self.revoke(api, seller, made["joinToken"]["id"])
        assert done["userErrors"] == []
        assert await listed(api, seller) == []
        with pytest.raises(LinkRefused, match="revoked"):
            await join(api, made["token"])
        assert await self.revoke(api, seller, made["joinToken"]["id"]) == done

    async def test_one_that_a_machine_has_used_says_what_to_do_instead(
        self, api: Api, seller: Seller
    ) -> None:
        made = await make_token(api, seller)
        await join(api, made["token"])
        refused = await self.revoke(api, seller, made["joinToken"]["id"])
        assert refused["userErrors"] == [{"code": "CONFLICT", "field": ["input", "joinTokenId"]}]

    async def test_another_providers_is_not_found_and_stays(self, api: Api, seller: Seller) -> None:
        rival = await api.seller()
        made = await make_token(api, rival)
        refused = await self.revoke(api, seller, made["joinToken"]["id"])
        assert refused["userErrors"] == [{"code": "NOT_FOUND", "field": ["input", "joinTokenId"]}]
        assert [each["id"] for each in await listed(api, rival)] == [made["joinToken"]["id"]]

    async def test_each_leaves_an_entry_in_the_audit_log(self, api: Api, seller: Seller) -> None:
        made = await make_token(api, seller)
        await self.revoke(api, seller, made["joinToken"]["id"])
        await api(CREATE, seller.tenant.owner, input=wish(seller, fresh_slug()))
        query = """query ($id: ID!) { organization(id: $id) { auditLog(first: 10) { nodes { action } } } }"""
        found = (await api(query, seller.tenant.owner, id=seller.tenant.id)).data
        actions = {entry["action"] for entry in found["organization"]["auditLog"]["nodes"]}
        assert {"createPool", "createJoinToken", "revokeJoinToken"} <= actions
