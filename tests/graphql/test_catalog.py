"""Revisions and aliases over GraphQL, and what strangers see of private models."""

from typing import Any

import pytest_asyncio

from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.catalog.models import Modality, Model, ModelRevision
from raymart_marketplace.catalog.registry_models import Access
from raymart_marketplace.catalog.service import ensure_model
from raymart_marketplace.catalog.sharing import share_model
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Person, Seller, Tenant
from support.market import make_revision, unique

ALIASES = "query ($slug: String!) { model(slug: $slug) { slug aliases { name quantization revision { digest state } } } }"


@pytest_asyncio.fixture(loop_scope="session")
async def admin(api: Api) -> Person:
    return (await api.tenant(OrganizationKind.PLATFORM)).owner


async def second_revision(api: Api, seller: Seller) -> ModelRevision:
    async with session_scope(api.services.sessions) as session:
        model = await session.get_one(Model, seller.model_id)
        return await make_revision(session, model=model)


async def change(api: Api, name: str, person: Person, selection: str, **given: Any) -> dict[str, Any]:
    kind = name[0].upper() + name[1:]
    query = f"mutation ($input: {kind}Input!) {{ {name}(input: $input) {{ {selection} userErrors {{ code field message }} }} }}"
    return (await api(query, person, input=given)).data[name]


async def named(api: Api, seller: Seller) -> dict[str, str]:
    found = (await api(ALIASES, slug=seller.model_slug)).data["model"]["aliases"]
    return {each["name"]: each["revision"]["digest"] for each in found}


class TestAliases:
    async def test_pointed_rolled_back_and_withdrawn_by_an_administrator(
        self, api: Api, admin: Person, seller: Seller
    ):
        second = await second_revision(api, seller)
        revision_id = show(Prefix.REVISION, second.id)
        before = (await named(api, seller))["latest"]
        assert before == second.digest
        made = await change(
            api,
            "pointModelAlias",
            admin,
            "alias { name revision { digest } }",
            revisionId=revision_id,
            alias="stable",
        )
        assert made["userErrors"] == []
        assert made["alias"] == {"name": "stable", "revision": {"digest": second.digest}}
        [refused] = (
            await change(api, "withdrawModelRevision", admin, "revision { state }", revisionId=revision_id)
        )["userErrors"]
        assert "'latest' and 'stable'" in refused["message"]
        [refused] = (
            await change(
                api,
                "rollBackModelAlias",
                admin,
                "aliases { name }",
                modelId=show(Prefix.MODEL, seller.model_id),
                alias="stable",
            )
        )["userErrors"]
        assert refused["code"] == "CONFLICT"
        made = await change(
            api, "deprecateModelRevision", admin, "revision { state }", revisionId=revision_id
        )
        assert made["revision"] == {"state": "DEPRECATED"}
        made = await change(api, "publishModelRevision", admin, "revision { state }", revisionId=revision_id)
        assert made["revision"] == {"state": "PUBLISHED"}

    async def test_rollback_goes_to_what_it_named_before(self, api: Api, admin: Person, seller: Seller):
        await second_revision(api, seller)
        third = await second_revision(api, seller)
        made = await change(
            api,
            "rollBackModelAlias",
            admin,
            "aliases { revision { digest } }",
            modelId=show(Prefix.MODEL, seller.model_id),
        )
        assert made["userErrors"] == []
        assert (
            made["aliases"][0]["revision"]["digest"] == (await named(api, seller))["latest"] != third.digest
        )

    async def test_bad_alias_is_a_user_error(self, api: Api, admin: Person, seller: Seller):
        second = await second_revision(api, seller)
        made = await change(
            api,
            "pointModelAlias",
            admin,
            "alias { name }",
            revisionId=show(Prefix.REVISION, second.id),
            alias="Not One",
        )
        assert made["userErrors"][0]["field"] == ["input", "alias"]


class TestPrivate:
    async def test_owner_sees_it_and_strangers_nothing_of_it(
        self, api: Api, customer: Tenant, stranger: Tenant
    ):
        slug = f"test/{unique('private')}"
        async with session_scope(api.services.sessions) as session:
            model = await ensure_model(
                session,
                slug=slug,
                name="Private",
                description="",
                modality=Modality.CHAT,
                licence="MIT",
                organization_id=customer.organization_id,
            )
            revision = await make_revision(session, model=model)
        ids = [show(Prefix.MODEL, model.id), show(Prefix.REVISION, revision.id)]
        query = "query ($slug: String!, $ids: [ID!]!) { model(slug: $slug) { slug } nodes(ids: $ids) { id } models(last: 100) { nodes { slug } } }"

        async def seen(person: Person | None) -> tuple[Any, list[Any], bool]:
            data = (await api(query, person, slug=slug, ids=ids)).data
            listed = {each["slug"] for each in data["models"]["nodes"]}
            return data["model"], data["nodes"], slug in listed

        assert await seen(customer.people[Role.OWNER]) == (
            {"slug": slug},
            [{"id": each} for each in ids],
            True,
        )
        for person in (stranger.people[Role.OWNER], None):
            assert await seen(person) == (None, [None, None], False)
        async with session_scope(api.services.sessions) as session:
            await share_model(
                session,
                model=model,
                organization_id=stranger.organization_id,
                access=Access.USE,
                actor_id=None,
            )
        assert (await seen(stranger.people[Role.OWNER]))[0] == {"slug": slug}
