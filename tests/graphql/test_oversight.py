"""Suspending, flagging and switching: who is refused, where, with which code; and that it ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.oversight.live import LiveControls, Suspended
from raymart_marketplace.oversight.models import SwitchState
from raymart_marketplace.oversight.suspension import withheld_providers
from raymart_marketplace.oversight.switches import Feature, Switch, is_on
from support.api_server import Api, Person, Seller, Tenant, api_server, control_settings
from support.scripted_replica import ScriptedReplica
from support.statements import statements_of

SUSPEND = {
    "ORGANIZATION": "mutation ($id: ID!, $why: String!) {"
    " done: suspendOrganization(input: {organizationId: $id, reason: $why}) { ...s } }",
    "USER": "mutation ($id: ID!, $why: String!) { done: suspendUser(input: {userId: $id, reason: $why}) { ...s } }",
    "PROVIDER": "mutation ($id: ID!, $why: String!) {"
    " done: suspendProvider(input: {providerId: $id, reason: $why}) { ...s } }",
    "API_KEY": "mutation ($id: ID!, $why: String!) {"
    " done: suspendApiKey(input: {apiKeyId: $id, reason: $why}) { ...s } }",
}
PAYLOADS = {
    "ORGANIZATION": "SuspendOrganizationPayload",
    "USER": "SuspendUserPayload",
    "PROVIDER": "SuspendProviderPayload",
    "API_KEY": "SuspendApiKeyPayload",
}
SHOWN = (
    " fragment s on %s { suspension { kind subjectId reason liftedAt actor { id } organization { id } }"
    " userErrors { code message field } }"
)
LIFT = (
    "mutation ($id: ID!, $why: String!) { done: liftSuspension(input: {subjectId: $id, reason: $why}) { ...s } }"
    + SHOWN % "LiftSuspensionPayload"
)
ASK = """mutation ($input: CreateChatCompletionInput!) {
  createChatCompletion(input: $input) { completion { text } userErrors { code } } }"""
FLAG = """mutation ($ids: [ID!]!, $why: String!) { flagUsage(input: {requestIds: $ids, reason: $why}) {
  flags { requestId reason usageRecord { amount { amount } flag { reason } } provider { slug } organization { id } }
  userErrors { code } } }"""
FLAGGED = (
    "query ($standing: Boolean) { flaggedUsage(standing: $standing) { nodes { requestId clearedReason } } }"
)
SWITCH = """mutation ($input: SetFeatureSwitchInput!) { setFeatureSwitch(input: $input) {
  featureSwitch { key state percentage organizationIds } userErrors { code } } }"""
INTROSPECT = "{ __schema { queryType { name } } }"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def admin(api: Api) -> Person:
    return await api.admin()


async def suspend(api: Api, admin: Person, kind: str, item_id: str, why: str = "fraud") -> dict[str, Any]:
    query = SUSPEND[kind] + SHOWN % PAYLOADS[kind]
    done: dict[str, Any] = (await api(query, admin, id=item_id, why=why)).data["done"]
    return done


async def lift(api: Api, admin: Person, item_id: str) -> dict[str, Any]:
    done: dict[str, Any] = (await api(LIFT, admin, id=item_id, why="a mistake")).data["done"]
    return done


async def rest(api: Api, secret: str, seller: Seller) -> tuple[int, str | None]:
    """Status and code of a chat request over REST."""
    body = {"model": seller.model_slug, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    response = await api.client.post(
        "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {secret}"}
    )
    return response.status_code, response.json().get("error", {}).get("code")


class TestSuspension:
    async def test_suspended_organization_is_refused_before_any_hold_until_it_is_lifted(
        self, api: Api, admin: Person, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        _, secret = await api.api_key(customer)
        assert (await rest(api, secret, seller))[0] == 200
        done = await suspend(api, admin, "ORGANIZATION", customer.id)
        assert done["suspension"] == {
            "kind": "ORGANIZATION",
            "subjectId": customer.id,
            "reason": "fraud",
            "liftedAt": None,
            "actor": {"id": show(Prefix.USER, admin.user_id)},
            "organization": {"id": customer.id},
        }
        assert await rest(api, secret, seller) == (403, "suspended")
        chat = {"model": seller.model_slug, "messages": [{"role": "USER", "content": "hi"}], "maxTokens": 2}
        refused = (await api(ASK, customer.owner, input=chat)).data["createChatCompletion"]
        assert refused["userErrors"] == [{"code": "SUSPENDED"}]
        query = "query ($id: ID!) { organization(id: $id) { suspension { reason actor { id } } } }"
        seen = (await api(query, customer.owner, id=customer.id)).data["organization"]["suspension"]
        assert seen == {"reason": "fraud", "actor": None}
        done = await lift(api, admin, customer.id)
        assert done["suspension"]["liftedAt"]
        assert (await rest(api, secret, seller))[0] == 200

    async def test_suspended_key_is_refused_and_its_neighbour_served(
        self, api: Api, admin: Person, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        key_id, secret = await api.api_key(customer)
        _, other = await api.api_key(customer)
        await suspend(api, admin, "API_KEY", show(Prefix.API_KEY, key_id))
        assert await rest(api, secret, seller) == (403, "suspended")
        assert (await rest(api, other, seller))[0] == 200

    async def test_suspended_person_is_signed_out_and_comes_back(
        self, api: Api, admin: Person, customer: Tenant
    ) -> None:
        person = customer.people[Role.DEVELOPER]
        user_id = show(Prefix.USER, person.user_id)
        me = "{ viewer { user { id } } }"
        assert (await api(me, person)).data
        await suspend(api, admin, "USER", user_id)
        assert (await api(me, person)).code == "UNAUTHENTICATED"
        await lift(api, admin, user_id)
        async with asyncio.timeout(30):  # A refusal is remembered for a second.
            while (await api(me, person)).errors:
                await asyncio.sleep(0.05)

    async def test_suspended_provider_leaves_routing_is_not_paid_and_comes_back(
        self, api: Api, admin: Person, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        _, secret = await api.api_key(customer)
        query = "query ($id: ID!) { provider(id: $id) { state suspension { reason } earnings { withheld } } }"
        assert (await rest(api, secret, seller))[0] == 200
        await suspend(api, admin, "PROVIDER", seller.id)
        async with asyncio.timeout(30):  # Without an endpoint the catalog is asked, which may be seconds old.
            while (await rest(api, secret, seller))[0] == 404:
                await asyncio.sleep(0.1)
        assert (await rest(api, secret, seller))[0] == 503
        found = (await api(query, seller.tenant.owner, id=seller.id)).data["provider"]
        assert (found["state"], found["suspension"]) == ("SUSPENDED", {"reason": "fraud"})
        async with session_scope(api.services.sessions) as session:
            assert await withheld_providers(session, [seller.provider_id, new_id()]) == {seller.provider_id}
        await lift(api, admin, seller.id)
        found = (await api(query, seller.tenant.owner, id=seller.id)).data["provider"]
        assert (found["state"], found["suspension"]) == ("ACTIVE", None)
        assert (await rest(api, secret, seller))[0] == 200

    async def test_another_process_refuses_within_seconds(
        self, api: Api, admin: Person, customer: Tenant
    ) -> None:
        """The 10 s that are promised: the other process reads every 2 s, here every 50 ms."""
        caller = await api.services.authenticator.caller(f"Bearer {customer.owner.token}".encode())
        elsewhere = LiveControls(api.services.sessions, refresh_s=0.05)
        await elsewhere.start()
        try:
            elsewhere.check(caller)
            await suspend(api, admin, "ORGANIZATION", customer.id)
            async with asyncio.timeout(30):
                while True:
                    try:
                        elsewhere.check(caller)
                    except Suspended:
                        break
                    await asyncio.sleep(0.01)
        finally:
            await elsewhere.stop()

    async def test_what_cannot_be_done_says_why(
        self, api: Api, admin: Person, customer: Tenant, stranger: Tenant
    ) -> None:
        async def code(kind: str, item_id: str, why: str = "fraud") -> str | None:
            errors = (await suspend(api, admin, kind, item_id, why))["userErrors"]
            return errors[0]["code"] if errors else None

        assert await code("ORGANIZATION", customer.id) is None
        assert await code("ORGANIZATION", customer.id) == "CONFLICT"
        assert await code("ORGANIZATION", show(Prefix.ORGANIZATION, new_id())) == "NOT_FOUND"
        assert await code("ORGANIZATION", stranger.id, " ") == "INVALID"
        assert await code("USER", show(Prefix.USER, admin.user_id)) == "FORBIDDEN"
        viewer = (await api("{ viewer { organizations { nodes { id } } } }", admin)).data["viewer"]
        assert await code("ORGANIZATION", viewer["organizations"]["nodes"][0]["id"]) == "FORBIDDEN"
        assert (await lift(api, admin, stranger.id))["userErrors"][0]["code"] == "CONFLICT"
        assert (await lift(api, admin, show(Prefix.MODEL, new_id())))["userErrors"][0]["code"] == "INVALID"

    async def test_two_at_once_make_one(self, api: Api, admin: Person, customer: Tenant) -> None:
        done = await asyncio.gather(*(suspend(api, admin, "ORGANIZATION", customer.id) for _ in range(4)))
        assert sum(each["suspension"] is not None for each in done) == 1
        assert {error["code"] for each in done for error in each["userErrors"]} == {"CONFLICT"}

    async def test_they_are_listed_while_they_stand_and_after(
        self, api: Api, admin: Person, customer: Tenant, stranger: Tenant
    ) -> None:
        query = """query ($standing: Boolean, $first: Int = 100) { suspensions(kind: ORGANIZATION, standing: $standing, first: $first) {
            nodes { subjectId reason actor { email } organization { slug } } } }"""
        await suspend(api, admin, "ORGANIZATION", customer.id)
        await suspend(api, admin, "ORGANIZATION", stranger.id)
        await lift(api, admin, stranger.id)

        async def listed(standing: bool | None) -> set[str]:
            data = (await api(query, admin, standing=standing)).data
            return {node["subjectId"] for node in data["suspensions"]["nodes"]}

        ours = {customer.id, stranger.id}
        assert ours & await listed(True) == {customer.id}
        assert ours & await listed(False) == {stranger.id}
        assert ours <= await listed(None)
        support = (await api.tenant(OrganizationKind.PLATFORM)).people[Role.SUPPORT]
        seen = (await api(query, support, standing=True)).data["suspensions"]["nodes"]
        assert customer.id in {node["subjectId"] for node in seen}
        assert {node["organization"] for node in seen} == {None}  # Only with a grant of the tenant's.
        one = await statements_of(api, query, admin, first=1)
        assert await statements_of(api, query, admin, first=50) == one


class TestUsageFlags:
    async def test_usage_is_flagged_listed_and_cleared(
        self, api: Api, admin: Person, customer: Tenant, seller: Seller
    ) -> None:
        ids = [show(Prefix.REQUEST, each) for each in await api.use(customer, seller, 2)]
        for why, seen in (("odd counts", "odd counts"), ("again", "odd counts")):
            flags = (await api(FLAG, admin, ids=ids, why=why)).data["flagUsage"]["flags"]
            assert [flag["requestId"] for flag in flags] == ids
            assert {flag["reason"] for flag in flags} == {seen}
            assert {flag["usageRecord"]["flag"]["reason"] for flag in flags} == {seen}
            assert {flag["organization"]["id"] for flag in flags} == {customer.id}
        clear = """mutation ($id: ID!) { clearUsageFlag(input: {requestId: $id, reason: "fine"}) {
          flag { clearedAt clearedReason } userErrors { code } } }"""
        assert (await api(clear, admin, id=ids[0])).data["clearUsageFlag"]["flag"]["clearedReason"] == "fine"
        errors = (await api(clear, admin, id=ids[0])).data["clearUsageFlag"]["userErrors"]
        assert errors == [{"code": "CONFLICT"}]

        async def flagged(standing: bool) -> list[str]:
            nodes = (await api(FLAGGED, admin, standing=standing)).data["flaggedUsage"]["nodes"]
            return [node["requestId"] for node in nodes if node["requestId"] in ids]

        assert await flagged(standing=True) == [ids[1]]
        assert await flagged(standing=False) == [ids[0]]

    async def test_one_that_does_not_exist_flags_none(
        self, api: Api, admin: Person, customer: Tenant, seller: Seller
    ) -> None:
        [real] = [show(Prefix.REQUEST, each) for each in await api.use(customer, seller, 1)]
        answer = await api(FLAG, admin, ids=[real, show(Prefix.REQUEST, new_id())], why="x")
        assert answer.data["flagUsage"]["userErrors"] == [{"code": "NOT_FOUND"}]
        nodes = (await api(FLAGGED, admin, standing=True)).data["flaggedUsage"]["nodes"]
        assert real not in {node["requestId"] for node in nodes}

    async def test_flags_are_not_the_customers_to_see(
        self, api: Api, admin: Person, customer: Tenant, seller: Seller
    ) -> None:
        [request] = [show(Prefix.REQUEST, each) for each in await api.use(customer, seller, 1)]
        query = "query ($id: ID!) { organization(id: $id) { usageRecords { nodes { flag { reason } } } } }"
        await api(FLAG, admin, ids=[request], why="odd")
        for person, seen in ((customer.owner, None), (admin, {"reason": "odd"})):
            data = (await api(query, person, id=customer.id)).data
            assert [node["flag"] for node in data["organization"]["usageRecords"]["nodes"]] == [seen]


class TestSwitches:
    @pytest_asyncio.fixture(loop_scope="session")
    async def switch(self, api: Api, admin: Person) -> AsyncIterator[Any]:
        """Sets a switch; afterwards all stand as they did by default."""

        async def switch(**given: Any) -> dict[str, Any]:
            done: dict[str, Any] = (await api(SWITCH, admin, input=given)).data["setFeatureSwitch"]
            return done

        yield switch
        await switch(feature="INFERENCE", state="ON")
        await switch(feature="SIGNUPS", state="ON")
        await switch(feature="INTROSPECTION", state="OFF")

    @pytest.mark.usefixtures("replica")
    async def test_inference_is_switched_off_for_all_and_for_some(
        self,
        api: Api,
        switch: Any,
        customer: Tenant,
        stranger: Tenant,
        seller: Seller,
    ) -> None:
        secrets = []
        for tenant in (customer, stranger):
            await api.credit(tenant)
            secrets.append((await api.api_key(tenant))[1])
        done = await switch(feature="INFERENCE", state="OFF")
        assert done["featureSwitch"] == {
            "key": "inference_enabled",
            "state": "OFF",
            "percentage": 0,
            "organizationIds": [],
        }
        for secret in secrets:
            assert await rest(api, secret, seller) == (503, "inference_disabled")
        await switch(feature="INFERENCE", state="ORGANIZATIONS", organizationIds=[customer.id])
        assert (await rest(api, secrets[0], seller))[0] == 200
        assert (await rest(api, secrets[1], seller))[0] == 503

    async def test_introspection_outside_development_is_switched(
        self, api: Api, switch: Any, database_url: str
    ) -> None:
        async with api_server(control_settings(database_url, development=False)) as production:
            assert (await production(INTROSPECT)).errors
            await switch(feature="INTROSPECTION", state="ON")
            await production.services.controls.refresh()
            assert (await production(INTROSPECT)).data == {"__schema": {"queryType": {"name": "Query"}}}
            await switch(feature="INTROSPECTION", state="OFF")
            await production.services.controls.refresh()
            assert (await production(INTROSPECT)).errors

    async def test_closed_signups_turn_strangers_away(self, api: Api, switch: Any) -> None:
        query = """mutation { signUp(input: {email: "new@example.com", password: "a long and odd one 7", name: "N",
          organizationName: "O", organizationKind: CUSTOMER}) { userErrors { code } } }"""
        await switch(feature="SIGNUPS", state="OFF")
        assert (await api(query)).data["signUp"]["userErrors"] == [{"code": "FORBIDDEN"}]
        await switch(feature="SIGNUPS", state="ON")
        assert (await api(query)).data["signUp"]["userErrors"] == []

    async def test_all_are_listed(self, api: Api, admin: Person) -> None:
        data = (await api("{ featureSwitches { key state } }", admin)).data
        assert {found["key"] for found in data["featureSwitches"]} == {feature.value for feature in Feature}

    async def test_values_out_of_range_are_refused(self, switch: Any) -> None:
        assert (await switch(feature="SIGNUPS", state="PERCENTAGE", percentage=101))["userErrors"] == [
            {"code": "INVALID"}
        ]

    def test_a_share_grows_without_dropping_anybody(self) -> None:
        organizations = [new_id() for _ in range(2_000)]
        before: set[Any] = set()
        for percentage in (0, 1, 25, 50, 99, 100):
            switch = Switch(state=SwitchState.PERCENTAGE, percentage=percentage)
            inside = {each for each in organizations if is_on(Feature.SIGNUPS, switch, each)}
            assert before <= inside
            # Six standard deviations of a share of 2,000.
            assert abs(len(inside) - 20 * percentage) <= 134
            before = inside
        assert len(before) == 2_000
        assert not is_on(Feature.SIGNUPS, Switch(state=SwitchState.PERCENTAGE, percentage=100), None)


class TestSearch:
    @pytest.mark.parametrize("shout", [str.lower, str.upper])
    async def test_people_and_organizations_are_found_by_a_part_of_their_name(
        self, api: Api, admin: Person, customer: Tenant, shout: Any
    ) -> None:
        users = "query ($search: String) { users(search: $search) { nodes { id } } }"
        mail = customer.owner.email
        found = (await api(users, admin, search=shout(mail[2:-3]))).data["users"]["nodes"]
        assert found == [{"id": show(Prefix.USER, customer.owner.user_id)}]
        query = """query ($search: String) { organizations(search: $search, kind: CUSTOMER) {
          nodes { id name balance { available { amount } } suspension { reason } } } }"""
        name = (await api("query ($id: ID!) { organization(id: $id) { name } }", admin, id=customer.id)).data
        found = (await api(query, admin, search=shout(name["organization"]["name"]))).data["organizations"]
        assert [node["id"] for node in found["nodes"]] == [customer.id]

    async def test_signs_of_a_pattern_are_letters(self, api: Api, admin: Person) -> None:
        users = "query ($search: String) { users(search: $search) { nodes { id } } }"
        assert (await api(users, admin, search="%_%_%")).data["users"]["nodes"] == []
