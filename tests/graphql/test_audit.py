"""Every mutation leaves an entry; what an entry says; who may read them."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import func, select
from strawberry.types.base import StrawberryObjectDefinition

from raymart_core.ids import Prefix, parse, show
from raymart_graphql.permissions import Guard
from raymart_graphql.schema import build_schema
from raymart_graphql.schema.audited import NOT_AUDITED, Audited, RefusalsAudited
from raymart_marketplace.accounts.models import Role
from raymart_marketplace.audit import ActorKind, AuditEntry, AuditOrigin, AuditOutcome
from raymart_marketplace.db.session import session_scope
from support.api_server import PASSWORD, Api, Person, Tenant

CREATE = 'mutation ($project: ID!) { createApiKey(input: {projectId: $project, name: "CI of Ada"}) { apiKey { id } secret } }'
REVOKE = "mutation ($id: ID!) { revokeApiKey(input: {apiKeyId: $id}) { apiKey { id } userErrors { code } } }"
LOGIN = "mutation ($email: String!, $password: String!) { login(input: {email: $email, password: $password}) { token } }"


async def entries(
    api: Api, *, organization_id: UUID | None = None, actor_id: UUID | None = None
) -> Sequence[AuditEntry]:
    wanted = (
        AuditEntry.organization_id == organization_id
        if organization_id is not None
        else AuditEntry.actor_id == actor_id
    )
    async with session_scope(api.services.sessions) as session:
        return (await session.scalars(select(AuditEntry).where(wanted).order_by(AuditEntry.id))).all()


async def count(api: Api) -> int:
    async with session_scope(api.services.sessions) as session:
        return await session.scalar(select(func.coalesce(func.max(AuditEntry.id), 0))) or 0


class TestByConstruction:
    def test_every_mutation_is_audited_inside_its_rule_or_says_why_not(self):
        """A new mutation cannot miss it: `GuardedSchema` puts it there."""
        schema = build_schema()
        mutation = schema.get_type_by_name("Mutation")
        assert isinstance(mutation, StrawberryObjectDefinition)
        audited = {}
        for field in mutation.fields:
            kinds = [type(extension) for extension in field.extensions]
            audited[schema.config.name_converter.get_graphql_name(field)] = Audited in kinds and kinds.index(
                Audited
            ) < kinds.index(Guard) < kinds.index(RefusalsAudited)
        assert len(audited) > 20
        # Named here as well: leaving another one out is a decision, not an edit.
        assert set(NOT_AUDITED) == {
            "createChatCompletion",
            "createImage",
            "createEmbedding",
            "refreshSession",
        }
        assert {name for name, is_audited in audited.items() if not is_audited} == set(NOT_AUDITED)
        assert all(len(reason) > 20 for reason in NOT_AUDITED.values())


class TestEntries:
    async def test_making_and_revoking_a_key_says_who_what_and_whence(self, api: Api, customer: Tenant):
        made = await api(
            CREATE, customer.owner, headers={"user-agent": "console/9"}, project=customer.project
        )
        key = made.data["createApiKey"]["apiKey"]["id"]
        await api(REVOKE, customer.owner, id=key)
        creation, revocation = await entries(api, organization_id=customer.organization_id)
        assert (creation.action, revocation.action) == ("createApiKey", "revokeApiKey")
        for entry in (creation, revocation):
            assert (entry.actor_kind, entry.actor_id) == (ActorKind.USER, customer.owner.user_id)
            assert entry.acting_organization_id == customer.organization_id
            assert (entry.subject_kind, entry.subject_id) == ("key", parse(Prefix.API_KEY, key))
            assert entry.outcome is AuditOutcome.DONE
        assert creation.request_id == parse(Prefix.REQUEST, made.response.headers["x-request-id"])
        asked = creation.detail["input"]
        assert (asked["project_id"], asked["name"]) == (customer.project, "[hidden]")
        assert creation.detail["changes"][0]["insert"] == "api_key"
        assert creation.detail["changes"][0]["values"]["key_hash"] == "[hidden]"
        assert [change["update"] for change in revocation.detail["changes"]] == ["api_key"]
        async with session_scope(api.services.sessions) as session:
            origin = await session.get_one(AuditOrigin, creation.id)
        assert (origin.address, origin.user_agent) == ("127.0.0.1", "console/9")
        assert made.data["createApiKey"]["secret"] not in str(creation.detail)

    async def test_a_repeat_that_changes_nothing_is_written_down_as_well(self, api: Api, customer: Tenant):
        key_id, _ = await api.api_key(customer)
        for _ in range(2):
            await api(REVOKE, customer.owner, id=show(Prefix.API_KEY, key_id))
        assert [entry.action for entry in await entries(api, organization_id=customer.organization_id)] == [
            "revokeApiKey"
        ] * 2

    async def test_what_failed_has_none(self, api: Api, customer: Tenant):
        answer = await api(
            'mutation ($id: ID!) { setBudget(input: {scopeId: $id, period: MONTHLY, limit: "-1"}) { userErrors { code } } }',
            customer.owner,
            id=customer.id,
        )
        assert answer.data["setBudget"]["userErrors"]
        assert await entries(api, organization_id=customer.organization_id) == []

    async def test_an_administrator_acts_for_the_platform_on_the_customers_things(
        self, api: Api, customer: Tenant
    ):
        admin = await api.admin()
        await api(
            'mutation ($id: ID!) { blockCustomer(input: {organizationId: $id, reason: "a stolen card"})'
            " { userErrors { code } } }",
            admin,
            id=customer.id,
        )
        [entry] = await entries(api, organization_id=customer.organization_id)
        assert (entry.action, entry.actor_id) == ("blockCustomer", admin.user_id)
        assert entry.acting_organization_id not in {None, customer.organization_id}
        assert entry.detail["input"]["reason"] == "a stolen card"

    async def test_every_transaction_of_a_mutation_is_an_act_of_it(self, api: Api, customer: Tenant):
        """Of one whose resolver never asks for `writing()`: no code of the resolver is needed."""
        before = await count(api)
        await api(
            'mutation ($id: ID!) { setBudget(input: {scopeId: $id, period: MONTHLY, limit: "5"}) { userErrors { code } } }',
            customer.owner,
            id=customer.id,
        )
        assert await count(api) == before + 1


class TestSigningIn:
    async def test_a_sign_in_is_an_act_of_its_person(self, api: Api, customer: Tenant):
        await api(LOGIN, email=customer.owner.email, password=PASSWORD)
        [entry] = [e for e in await entries(api, actor_id=customer.owner.user_id) if e.action == "login"]
        assert entry.actor_kind is ActorKind.USER
        assert (entry.subject_kind, entry.subject_id) == ("sess", entry.session_id)
        assert "password" not in str(entry.detail).replace("'password': '[hidden]'", "")

    async def test_a_failed_one_leaves_nothing_in_the_database(self, api: Api, customer: Tenant):
        before = await count(api)
        for _ in range(3):
            await api(LOGIN, email=customer.owner.email, password="wrong")
        assert await count(api) == before


class TestOpenToAll:
    async def test_what_anybody_may_ask_leaves_nothing_unless_it_changes_something(
        self, api: Api, customer: Tenant
    ):
        before = await count(api)
        ask = "mutation ($email: String!) { requestPasswordReset(input: {email: $email}) { email userErrors { code } } }"
        answer = await api(ask, customer.owner, email=f"nobody-{customer.id}@example.com")
        assert answer.data["requestPasswordReset"]["userErrors"] == []
        assert await count(api) == before


class TestRefusals:
    async def test_a_member_without_the_right_is_kept_for_its_organization(self, api: Api, customer: Tenant):
        viewer = customer.people[Role.VIEWER]
        assert (await api(CREATE, viewer, project=customer.project)).code == "FORBIDDEN"
        [entry] = await entries(api, organization_id=customer.organization_id)
        assert (entry.outcome, entry.action, entry.actor_id) == (
            AuditOutcome.REFUSED,
            "createApiKey",
            viewer.user_id,
        )

    async def test_another_tenants_try_is_not_written_into_this_ones_log(
        self, api: Api, customer: Tenant, stranger: Tenant
    ):
        assert (await api(CREATE, stranger.owner, project=customer.project)).code == "FORBIDDEN"
        assert await entries(api, organization_id=customer.organization_id) == []
        [entry] = await entries(api, actor_id=stranger.owner.user_id)
        assert (entry.outcome, entry.organization_id) == (AuditOutcome.REFUSED, None)
        assert customer.project_id in entry.mentions

    async def test_a_key_is_known(self, api: Api, customer: Tenant):
        key_id, secret = await api.api_key(customer)
        await api(CREATE, secret, project=customer.project)
        [entry] = await entries(api, actor_id=key_id)
        assert (entry.outcome, entry.actor_kind) == (AuditOutcome.REFUSED, ActorKind.API_KEY)

    async def test_nobody_fills_the_table(self, api: Api, customer: Tenant):
        before = await count(api)
        for _ in range(3):
            await api(CREATE, project=customer.project)
            await api(CREATE, "rm_live_" + "x" * 43, project=customer.project)
        assert await count(api) == before


LOG = """query ($id: ID!, $filter: AuditFilter, $first: Int, $after: String) {
  organization(id: $id) { auditLog(filter: $filter, first: $first, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes { sequence action outcome actorKind actor subjectId organizationId requestId address userAgent detail } } } }"""


async def log_of(api: Api, tenant: Tenant, person: Person, **variables: Any) -> dict[str, Any]:
    found = await api(LOG, person, id=tenant.id, **variables)
    log: dict[str, Any] = found.data["organization"]["auditLog"]
    return log


class TestReading:
    async def test_an_owner_finds_by_every_filter(self, api: Api, customer: Tenant):
        admin = customer.people[Role.ADMIN]
        keys = [
            (await api(CREATE, who, project=customer.project)).data["createApiKey"]["apiKey"]["id"]
            for who in (customer.owner, admin, admin)
        ]
        await api(REVOKE, admin, id=keys[0])
        await api(CREATE, customer.people[Role.VIEWER], project=customer.project)
        owner = show(Prefix.USER, customer.owner.user_id)
        for wanted, expected in (
            ({}, ["createApiKey", "revokeApiKey", "createApiKey", "createApiKey", "createApiKey"]),
            ({"action": "revokeApiKey"}, ["revokeApiKey"]),
            ({"actor": owner}, ["createApiKey"]),
            ({"subjectId": keys[0]}, ["revokeApiKey", "createApiKey"]),
            ({"outcome": "REFUSED"}, ["createApiKey"]),
            ({"since": "2999-01-01T00:00:00Z"}, []),
            ({"until": "2999-01-01T00:00:00Z", "actor": owner, "subjectId": keys[1]}, []),
        ):
            log = await log_of(api, customer, customer.owner, filter=wanted)
            assert [entry["action"] for entry in log["nodes"]] == expected, wanted
        refused = await api(LOG, customer.owner, id=customer.id, filter={"subjectId": "nothing"})
        assert refused.errors

    async def test_pages_follow_each_other(self, api: Api, customer: Tenant):
        for _ in range(5):
            await api(CREATE, customer.owner, project=customer.project)
        seen: list[str] = []
        after = None
        while True:
            log = await log_of(api, customer, customer.owner, first=2, after=after)
            seen += [entry["sequence"] for entry in log["nodes"]]
            if not log["pageInfo"]["hasNextPage"]:
                break
            after = log["pageInfo"]["endCursor"]
        assert len(seen) == 5
        assert seen == sorted(seen, key=int, reverse=True)

    async def test_only_owners_and_admins_read_it(self, api: Api, customer: Tenant, stranger: Tenant):
        for role in (Role.DEVELOPER, Role.VIEWER):
            assert (await api(LOG, customer.people[role], id=customer.id)).errors
        answer = await api(LOG, stranger.owner, id=customer.id)
        assert answer.errors or answer.data["organization"] is None
        assert (await api("{ auditLog { nodes { sequence } } }", customer.owner)).code == "FORBIDDEN"

    async def test_staff_sees_all_and_its_own_address_is_not_the_customers_to_see(
        self, api: Api, customer: Tenant
    ):
        admin = await api.admin()
        await api(
            'mutation ($id: ID!) { blockCustomer(input: {organizationId: $id, reason: "a stolen card"})'
            " { userErrors { code } } }",
            admin,
            id=customer.id,
        )
        [entry] = (await log_of(api, customer, customer.owner))["nodes"]
        assert (entry["address"], entry["userAgent"]) == (None, None)
        assert json.loads(entry["detail"])["input"]["reason"] == "a stolen card"
        found = await api(
            "query ($filter: AuditFilter) { auditLog(filter: $filter) { nodes { action address organizationId } } }",
            admin,
            filter={"subjectId": customer.id},
        )
        assert found.data["auditLog"]["nodes"] == [
            {"action": "blockCustomer", "address": "127.0.0.1", "organizationId": customer.id}
        ]


class TestFiles:
    async def test_a_member_downloads_it_in_both_formats(self, api: Api, customer: Tenant, stranger: Tenant):
        for _ in range(3):
            await api(CREATE, customer.owner, project=customer.project)

        async def get(person: Person | None, ending: str) -> httpx.Response:
            headers = {} if person is None else {"authorization": f"Bearer {person.token}"}
            return await api.client.get(f"/audit/{customer.id}{ending}", headers=headers)

        lines = await get(customer.owner, ".jsonl")
        assert [json.loads(line)["action"] for line in lines.text.splitlines()] == ["createApiKey"] * 3
        table = await get(customer.owner, ".csv?from=2020-01-01T00:00:00Z")
        assert len(list(csv.DictReader(io.StringIO(table.text)))) == 3
        assert table.headers["cache-control"] == "private, no-store"
        assert len((await get(customer.owner, ".csv?to=2020-01-01T00:00:00Z")).text.splitlines()) == 1
        for person, ending, status in (
            (None, ".csv", 401),
            (stranger.owner, ".csv", 404),
            (customer.people[Role.VIEWER], ".jsonl", 404),
            (customer.owner, ".csv?from=yesterday", 400),
        ):
            assert (await get(person, ending)).status_code == status, (ending, status)
